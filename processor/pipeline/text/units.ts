/** A word or mark of a text, as they follow each other. */
export interface Unit {
  /** In lower case. */
  text: string
  /** Where it begins and ends. */
  from: number
  to: number
}

/** Whatever follows: a capital sigma is another small one at the end of a word. */
const lowerCase = (text: string) => text.toLowerCase().replaceAll('ς', 'σ')

const words = new Intl.Segmenter('und', { granularity: 'word' })

/** Words and marks of a text, in any script; `at` is added to their places. */
export function unitsOf(text: string, at = 0): Unit[] {
  const units: Unit[] = []
  for (const { segment, index } of words.segment(text))
    if (segment.trim() !== '')
      units.push({ text: lowerCase(segment), from: at + index, to: at + index + segment.length })
  return units
}

/** Behind it words are told apart as if the text began there: no rule of Unicode looks back over it. */
const certainCut = /(?:[ \t\r\n](?=[\p{Lu}\p{Ll}\p{Lo}\p{N}])|[。！？、，](?=\p{Lo}))/gu

/** Characters without a certain cut from which on an uncertain one is taken, and how far it is behind them. */
const mostUncut = 512
const farBehind = 128

/** The words and marks of a text that grows; only its end is read again. */
export class GrowingUnits {
  /** Those of the whole text. */
  readonly units: Unit[] = []
  /** So many characters and units stay as they are. */
  #settled = { characters: 0, units: 0 }
  #text = ''
  #stable = 0

  /**
   * Reads on.
   * @param stable characters of the text that stay as they are
   * @returns the number of units that are as before
   */
  update(text: string, stable: number): number {
    const { units } = this
    if (text === this.#text) return units.length
    this.#text = text
    if (stable < this.#settled.characters) this.#settled = { characters: 0, units: 0 }
    const tail = unitsOf(text.slice(this.#settled.characters), this.#settled.characters)
    const kept = Math.min(tail.length, units.length - this.#settled.units)
    let same = 0
    while (same < kept && isSame(tail[same]!, units[this.#settled.units + same]!)) same++
    const unchanged = this.#settled.units + same
    units.length = unchanged
    for (let i = same; i < tail.length; i++) units.push(tail[i]!)
    if (stable !== this.#stable) this.#settle(text, stable)
    this.#stable = stable
    return unchanged
  }

  #settle(text: string, stable: number): void {
    const cut = this.#cutOf(text, stable)
    if (cut === undefined) return
    let count = this.#settled.units
    while (count < this.units.length && this.units[count]!.to <= cut) count++
    this.#settled = { characters: cut, units: count }
  }

  #cutOf(text: string, stable: number): number | undefined {
    const { characters, units: from } = this.#settled
    // What is behind a cut counts too.
    const cuts = [...text.slice(characters, stable).matchAll(certainCut)]
    if (cuts.length > 0) return characters + cuts.at(-1)!.index + 1
    if (stable - characters < mostUncut) return undefined
    const last = this.units.findLastIndex(({ to }, at) => at >= from && to <= stable - farBehind)
    return last < 0 ? undefined : this.units[last]!.to
  }
}

const isSame = (one: Unit, other: Unit) =>
  one.from === other.from && one.to === other.to && one.text === other.text
