/** How long one caption became. */
export interface CaptionLength {
  ids: number
  /** False: it was cut at its most ids, and would have gone on. */
  ended: boolean
}

/** Ends of the ranges of lengths: each is about half as long as what is before it. */
const ends = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16_384].flatMap((end) => [
  end,
  1.5 * end,
])
/** Ids after which a caption ends of which nothing is known, in the mean, and the captions that this counts as. */
const unknownIds = 128
const unknownWeight = 0.2
/** What the captions before it still count with each new one. */
const kept = 0.98

interface Range {
  begin: number
  end: number
  /** Captions that came into it, and those that ended there. */
  came: number
  ended: number
}

/**
 * How long captions are, of those lately: for each range of lengths, the share that ended there of those that came so far. One that
 * was cut tells of the ids that it had, and nothing of those that it would have had.
 */
export class CaptionLengths {
  readonly #ranges = ends.map(
    (end, index): Range => ({ begin: ends[index - 1] ?? 0, end, came: 0, ended: 0 }),
  )

  observe({ ids, ended }: CaptionLength): void {
    for (const range of this.#ranges) {
      const { begin, end } = range
      range.came *= kept
      range.ended *= kept
      if (ids <= begin) continue
      const endedHere = ended && ids <= end
      range.came += endedHere ? 1 : Math.min(1, (ids - begin) / (end - begin))
      range.ended += endedHere ? 1 : 0
    }
  }

  /** Mean ids of the longest of several captions, each with its own most; 0 of none. */
  longest(most: readonly number[]): number {
    let length = 0
    let survival = 1
    for (const range of this.#ranges) {
      const share = shareThatEnds(range)
      const stops = [
        ...new Set([...most.filter((each) => each > range.begin && each < range.end), range.end]),
      ]
      let begin = range.begin
      for (const end of stops.sort((a, b) => a - b)) {
        const rows = most.filter((each) => each > begin).length
        if (rows === 0) return length
        const at = (ids: number) => survival * (1 - (share * (ids - range.begin)) / (range.end - range.begin))
        length += (end - begin) * anyOf(rows, [at(begin), at((begin + end) / 2), at(end)])
        begin = end
      }
      survival *= 1 - share
    }
    return length
  }
}

/** What is not known counts a little, so that it is all there is where nothing was seen. */
function shareThatEnds({ begin, end, came, ended }: Range): number {
  const unknown = -Math.expm1(-(end - begin) / unknownIds)
  return (ended + unknownWeight * unknown) / (came + unknownWeight)
}

/** Mean probability that one of so many captions goes on, by that of each at the begin, the middle and the end (Simpson's rule). */
function anyOf(rows: number, [begin, middle, end]: [number, number, number]): number {
  const any = (one: number) => 1 - (1 - one) ** rows
  return (any(begin) + 4 * any(middle) + any(end)) / 6
}
