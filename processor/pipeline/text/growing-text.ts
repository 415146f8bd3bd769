import {
  hasWords,
  isWholeSentence,
  overlap,
  sentencesOf,
  stripOpenings,
  withoutLoopMarks,
  withoutOpening,
} from './caption-text.ts'
import { LoopSearch } from './loop-search.ts'
import { SaidBefore } from './said-before.ts'
import { GrowingUnits, type Unit } from './units.ts'

export interface GrowingTextRules {
  openings?: readonly string[]
  stop?: readonly string[]
  /** It is ended where it repeats itself. */
  endLoops?: boolean
  /** It is ended at its last whole sentence where a maximum of tokens cuts it. */
  wholeSentences?: boolean
}

/** What a text that grows says again; each call takes as long as what is new. */
export class Repetition {
  readonly #units = new GrowingUnits()
  readonly #search = new LoopSearch()
  /** Words and marks without spaces, and characters before each; so many are as in the text. */
  readonly #squeezed: { text: string; before: number }[] = []
  #same = 0
  #said = new SaidBefore()

  /**
   * Where the text has said once what it repeats over and over, as `loopEnd` says of the whole.
   * @param stable characters of the text that stay as they are
   */
  loopEnd(text: string, stable: number): number | undefined {
    this.#update(text, stable)
    const { end } = this.#search
    return end === undefined ? undefined : this.#units.units[end]!.to
  }

  /** Where the longest end of the text begins that is in the text before, too: of words, regardless of spaces. */
  lastSaidBefore(text: string, stable: number): number {
    this.#update(text, stable)
    const { units } = this.#units
    this.#readOn()
    const from = this.#length - this.#said.length
    let first = units.length
    while (first > 0 && this.#squeezed[first - 1]!.before >= from) first--
    return units[first]?.from ?? text.length
  }

  #update(text: string, stable: number): void {
    const { units } = this.#units
    const same = this.#units.update(text, stable)
    this.#search.truncate(same)
    for (let at = same; at < units.length; at++) this.#search.push(units[at]!.text)
    this.#same = Math.min(this.#same, same)
  }

  #readOn(): void {
    const { units } = this.#units
    const old = this.#textFrom(this.#same)
    this.#squeezed.length = this.#same
    for (let at = this.#same; at < units.length; at++)
      this.#squeezed.push({ text: squeezed(units[at]!), before: this.#length })
    const read = this.#textFrom(this.#same)
    if (read.startsWith(old)) this.#said.add(read.slice(old.length))
    else {
      this.#said = new SaidBefore()
      this.#said.add(this.#textFrom(0))
    }
    this.#same = units.length
  }

  get #length(): number {
    const last = this.#squeezed.at(-1)
    return last ? last.before + last.text.length : 0
  }

  #textFrom(unit: number): string {
    let text = ''
    for (let at = unit; at < this.#squeezed.length; at++) text += this.#squeezed[at]!.text
    return text
  }
}

const squeezed = ({ text }: Unit) => text.replaceAll(/\s+/gu, '')

/**
 * What is settled of a text that still grows: nothing while it may be an opening, and not what may be the begin of a text that
 * ends it, of a repetition or of half a sentence, nor half a character. Each call takes as long as what is new.
 */
export class SettledText {
  readonly #rules: GrowingTextRules
  readonly #repetition: Repetition
  readonly #sentences = new FollowedSentences()

  /** @param repetition of the same text, where its user asks too */
  constructor(rules: GrowingTextRules, repetition = new Repetition()) {
    this.#rules = rules
    this.#repetition = repetition
  }

  /** @param stable characters of the text that stay as they are */
  of(text: string, stable = 0): string {
    const { openings = [], stop = [], endLoops = false, wholeSentences = false } = this.#rules
    const decoded = withoutHalfCharacter(text)
    const held = Math.max(0, ...stop.map((each) => overlap(decoded, each)))
    const unstopped = decoded.slice(0, decoded.length - held)
    const unlooped = endLoops
      ? this.#beforeRepetition(unstopped, Math.min(stable, unstopped.length))
      : unstopped
    const settled = wholeSentences ? this.#sentences.of(unlooped) : unlooped
    const rest = stripOpenings(settled.trimStart(), openings) ?? settled.trimStart()
    if (openings.length > 0 && (mayBeOpening(rest, openings) || !hasWords(rest))) return ''
    return withoutOpening(settled, openings)
  }

  /** A text up to where it has repeated itself, or says again what it said before, up to its end: a loop may begin there. */
  #beforeRepetition(text: string, stable: number): string {
    const end = this.#repetition.loopEnd(text, stable) ?? text.length
    return withoutLoopMarks(text.slice(0, Math.min(end, this.#repetition.lastSaidBefore(text, stable))))
  }
}

function withoutHalfCharacter(text: string): string {
  let end = text.length
  while (text[end - 1] === '\uFFFD') end--
  return text.slice(0, end)
}

function mayBeOpening(text: string, openings: readonly string[]): boolean {
  return openings.some((opening) => {
    const lower = opening.toLowerCase()
    return text.length <= lower.length && lower.startsWith(text.toLowerCase())
  })
}

/** What a sentence may end with. */
const mayEnd = /[\p{Sentence_Terminal}․﹒．\n\r\u0085\u2028\u2029]/u

/** The sentences of a text behind which another one has begun, so that their ends are certain. */
class FollowedSentences {
  /** Where the last sentence begins that another one follows, and where the last whole one ends. */
  #from = 0
  #end = 0
  /** Characters that were looked at, and whether a sentence may end behind `#from`. */
  #seen = 0
  #mayEnd = false

  of(text: string): string {
    if (text.length < this.#seen) {
      this.#from = this.#end = this.#seen = 0
      this.#mayEnd = false
    }
    this.#mayEnd ||= mayEnd.test(text.slice(this.#seen))
    this.#seen = text.length
    if (this.#mayEnd) this.#settle(text)
    return text.slice(0, this.#end).trimEnd()
  }

  #settle(text: string): void {
    const parts = sentencesOf(text.slice(this.#from))
    const begun = parts.findLastIndex((part) => /\p{L}/u.test(part))
    for (const part of parts.slice(0, Math.max(0, begun))) {
      this.#from += part.length
      if (isWholeSentence(part)) this.#end = this.#from
    }
    this.#mayEnd = mayEnd.test(text.slice(this.#from))
  }
}
