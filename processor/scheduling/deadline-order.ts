/** Where an image stands in its line. Times are unix ms; levels are indices into the model's prune levels. */
export interface Place {
  /** When the answer is wanted; Infinity when it is never late. */
  deadline: number
  /** What the line is ordered by: the deadline, or a finite stand-in for an image that has none. */
  due: number
  /** Breaks ties of `due`: first come, first served. Unique within a line. */
  arrival: number
  /** The least and the hardest level that the image may be run at. */
  least: number
  hardest: number
}

/** How many places there are of each hardest level: `tally[level]`. */
export type Tally = readonly number[]

interface Block<P> {
  places: P[]
  tally: number[]
  /** Tallies of the places before every 32nd, made when asked for and kept up to date from then on. */
  marks?: number[][]
}

/** Places a block holds at most: few enough that a splice is cheap, enough that 100,000 places are few blocks. */
const blockSize = 512
/** Places from one mark of a block to the next. */
const markEvery = 32
/** A walk visits this many places one by one, then every eighth, and from 256 on only the last place of each block. */
const visitedOneByOne = 64
const visitEvery = 8
const visitedNear = 256

/**
 * A line ordered by `due`: a list of sorted blocks. Adding and removing are two binary searches and a splice of at
 * most 512 places. The blocks also make a long line cheap to look along: each knows its tally.
 */
export class DeadlineOrder<P extends Place> {
  readonly #blocks: Block<P>[] = []
  readonly #tally: number[]
  #size = 0

  /** @param levels how many prune levels the model has. */
  constructor(levels: number) {
    this.#tally = new Array<number>(levels).fill(0)
  }

  get size(): number {
    return this.#size
  }

  get tally(): Tally {
    return this.#tally
  }

  get head(): P | undefined {
    return this.#blocks[0]?.places[0]
  }

  add(place: P): void {
    if (this.#blocks.length === 0) this.#blocks.push({ places: [], tally: this.#tally.map(() => 0) })
    const index = this.#blockOf(place)
    const block = this.#blocks[index]!
    const at = insertionPoint(block.places, place)
    block.places.splice(at, 0, place)
    this.#count(block, place, 1)
    moveMarks(block, { at, hardest: place.hardest, change: 1 })
    if (block.places.length > blockSize) this.#split(index)
  }

  /** @returns whether the place stood in the line. */
  remove(place: P): boolean {
    const index = this.#blockOf(place)
    const block = this.#blocks[index]
    if (block === undefined) return false
    const at = insertionPoint(block.places, place) - 1
    if (block.places[at] !== place) return false
    block.places.splice(at, 1)
    this.#count(block, place, -1)
    moveMarks(block, { at, hardest: place.hardest, change: -1 })
    this.#tidy(index)
    return true
  }

  /** The first places in order that `accept` takes: at most `count`, looked for among the first `within`. */
  pick(count: number, within: number, accept: (place: P) => boolean): P[] {
    const picked: P[] = []
    let left = within
    for (const { places } of this.#blocks) {
      for (const place of places) {
        if (picked.length >= count || left-- <= 0) return picked
        if (accept(place)) picked.push(place)
      }
    }
    return picked
  }

  /**
   * Calls `visit` along the line with the place's rank (1 is the head) and the tally up to and with it. The head of a
   * long line is visited place by place, then more and more sparsely; a place that is visited stands for those between.
   * `tally` is reused between calls. Ranks and tallies start behind `ahead`, the images of other lines that are served
   * first.
   */
  walk(visit: (place: P, rank: number, tally: Tally) => void, ahead: Tally = []): void {
    const tally = this.#tally.map((_, level) => ahead[level] ?? 0)
    const others = sum(ahead)
    let seen = 0
    for (const { places, tally: whole } of this.#blocks) {
      const near = Math.min(places.length - 1, visitedNear - seen)
      const before = near > 0 ? [...tally] : tally
      for (let at = 0; at < near; at++) {
        const rank = seen + at + 1
        tally[places[at]!.hardest]! += 1
        if (rank <= visitedOneByOne || rank % visitEvery === 0) visit(places[at]!, others + rank, tally)
      }
      for (let level = 0; level < tally.length; level++) tally[level] = before[level]! + whole[level]!
      seen += places.length
      visit(places.at(-1)!, others + seen, tally)
    }
  }

  /** Tally of the places that a newcomer with this `due` would stand behind. */
  aheadOf(due: number): Tally {
    return this.aheadOfEach([due])[0]!
  }

  /** The same for several `dues`, ascending, in one pass. The tallies start with `ahead`, as those of a walk do. */
  aheadOfEach(dues: readonly number[], ahead: Tally = []): Tally[] {
    const before = this.#tally.map((_, level) => ahead[level] ?? 0)
    let index = 0
    return dues.map((due) => {
      let block = this.#blocks[index]
      while (block && block.places.at(-1)!.due <= due) {
        addInto(before, block.tally)
        block = this.#blocks[++index]
      }
      const tally = [...before]
      if (block) addUpTo(tally, block, due)
      return tally
    })
  }

  /** The last block whose first place stands before `place` or is it; the first block when there is none. */
  #blockOf(place: Place): number {
    let low = 0
    let high = this.#blocks.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (isBefore(place, this.#blocks[middle]!.places[0]!)) high = middle
      else low = middle
    }
    return low
  }

  #count(block: Block<P>, place: P, change: 1 | -1): void {
    block.tally[place.hardest]! += change
    this.#tally[place.hardest]! += change
    this.#size += change
  }

  #split(index: number): void {
    const { places } = this.#blocks[index]!
    const halves = [places.slice(0, blockSize / 2), places.slice(blockSize / 2)]
    this.#blocks.splice(index, 1, ...halves.map((half) => this.#blockFrom(half)))
  }

  /** Drops an emptied block and joins it with the next when both are small, so that a walk stays short. */
  #tidy(index: number): void {
    const { places } = this.#blocks[index]!
    const next = this.#blocks[index + 1]?.places
    if (places.length === 0) this.#blocks.splice(index, 1)
    else if (next && places.length + next.length <= blockSize / 2)
      this.#blocks.splice(index, 2, this.#blockFrom([...places, ...next]))
  }

  #blockFrom(places: P[]): Block<P> {
    const tally = this.#tally.map(() => 0)
    for (const place of places) tally[place.hardest]! += 1
    return { places, tally }
  }
}

type Position = Pick<Place, 'due' | 'arrival'>

const isBefore = (a: Position, b: Position) => a.due < b.due || (a.due === b.due && a.arrival < b.arrival)

/** Index behind the last place that stands before `place` or is it. */
function insertionPoint(places: readonly Place[], place: Position): number {
  let low = 0
  let high = places.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (isBefore(place, places[middle]!)) high = middle
    else low = middle + 1
  }
  return low
}

/** Adds the places of the block that are due by `due`. */
function addUpTo(tally: number[], block: Block<Place>, due: number): void {
  const { places } = block
  block.marks ??= marksOf(places, tally.length)
  const end = insertionPoint(places, { due, arrival: Number.POSITIVE_INFINITY })
  const mark = Math.floor(end / markEvery)
  addInto(tally, block.marks[mark]!)
  for (let at = mark * markEvery; at < end; at++) tally[places[at]!.hardest]! += 1
}

/** Corrects the marks behind a place that has come to `at`, or gone from there: one neighbour moves across each. */
function moveMarks(
  block: Block<Place>,
  { at, hardest, change }: { at: number; hardest: number; change: 1 | -1 },
): void {
  const { marks, places } = block
  if (marks === undefined) return
  for (let mark = Math.floor(at / markEvery) + 1; mark < marks.length; mark++) {
    const moved = places[mark * markEvery - (change === 1 ? 0 : 1)]!
    marks[mark]![hardest]! += change
    marks[mark]![moved.hardest]! -= change
  }
  if ((marks.length - 1) * markEvery >= places.length) marks.pop()
  if (marks.length * markEvery < places.length) {
    const beforeLast = [...block.tally]
    beforeLast[places.at(-1)!.hardest]! -= 1
    marks.push(beforeLast)
  }
}

function marksOf(places: readonly Place[], levels: number): number[][] {
  const tally = new Array<number>(levels).fill(0)
  const marks: number[][] = []
  for (const [at, { hardest }] of places.entries()) {
    if (at % markEvery === 0) marks.push([...tally])
    tally[hardest]! += 1
  }
  return marks
}

function addInto(tally: number[], other: Tally): void {
  for (let level = 0; level < other.length; level++) tally[level]! += other[level]!
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
