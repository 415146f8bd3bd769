/** Words that a phrase repeats beside its first occurrence, of which fewer are no loop: "very, very, very large". */
const leastRepeated = 6
/** The same of figures and emoji, as tables and signs have them, and of marks alone: rules, dots. */
const leastFiguresRepeated = 9
const leastMarksRepeated = 24
const sentenceMark = /^\p{Sentence_Terminal}$/u
/** Units of a whole sentence that is a loop when it comes twice. */
const leastSentence = 4
/** No loop repeats fewer units, so that only where so many are as before one may begin. */
const leastRun = Math.min(leastRepeated, leastSentence)

/** Repetitions below which a phrase of a kind of units is no loop, whatever else. */
const leastOfKind = { letters: 0, figures: leastFiguresRepeated, marks: leastMarksRepeated }

/** What is known of a unit, whatever its places. */
interface Kind {
  id: number
  kind: keyof typeof leastOfKind
  endsSentence: boolean
}

/** Units up to the last one that are those `period` units before. */
interface Run {
  period: number
  length: number
}

/** A phrase of `length` units that is repeated from unit `from` on. */
interface Loop {
  from: number
  length: number
}

/** What is known up to a unit. */
interface Step {
  kind: Kind
  /** Of the last `leastRun` units. */
  key: string
  runs: Run[]
  loop: Loop | undefined
}

/**
 * Finds the first phrase of a text that is repeated over and over, in any script, unit by unit. A phrase counts with its
 * punctuation. Units can be taken back.
 */
export class LoopSearch {
  readonly #kinds = new Map<string, Kind>()
  readonly #steps: Step[] = []
  /** Units at which the same `leastRun` units end. */
  readonly #ends = new Map<string, number[]>()

  /** The first loop of the text; of those that begin together the shortest. */
  get loop(): Loop | undefined {
    return this.#steps.at(-1)?.loop
  }

  /** The last unit of the phrase, with the mark behind it that ends what is before too. */
  get end(): number | undefined {
    const { loop } = this
    if (!loop) return undefined
    const { from, length } = loop
    return length > 1 && this.#steps[from]!.kind.endsSentence ? from + length : from + length - 1
  }

  /** Adds a unit. @param text in lower case */
  push(text: string): void {
    const at = this.#steps.length
    const kind = this.#kindOf(text)
    const key =
      at + 1 < leastRun
        ? ''
        : [...this.#steps.slice(1 - leastRun).map((each) => each.kind.id), kind.id].join()
    const before = this.#steps.at(-1)
    const step: Step = {
      kind,
      key,
      runs: this.#runsAt(at, kind, key, before?.runs ?? []),
      loop: before?.loop,
    }
    this.#steps.push(step)
    for (const run of step.runs) step.loop = firstOf(step.loop, this.#loopOf(run, at))
    if (key === '') return
    const ends = this.#ends.get(key)
    if (ends) ends.push(at)
    else this.#ends.set(key, [at])
  }

  /** Takes units back. */
  truncate(length: number): void {
    while (this.#steps.length > length) {
      const { key } = this.#steps.pop()!
      if (key !== '') this.#ends.get(key)!.pop()
    }
  }

  #kindOf(text: string): Kind {
    const known = this.#kinds.get(text)
    if (known) return known
    const kind = { id: this.#kinds.size, kind: kindOf(text), endsSentence: sentenceMark.test(text) }
    this.#kinds.set(text, kind)
    return kind
  }

  /** Runs that go on, then those that begin. */
  #runsAt(at: number, { id }: Kind, key: string, before: readonly Run[]): Run[] {
    const runs: Run[] = []
    for (const { period, length } of before)
      if (this.#steps[at - period]!.kind.id === id) runs.push({ period, length: length + 1 })
    if (key === '') return runs
    const going = new Set(runs.map(({ period }) => period))
    for (const end of this.#ends.get(key) ?? [])
      if (!going.has(at - end)) runs.push({ period: at - end, length: leastRun })
    return runs
  }

  /** The first loop that a run makes with its last unit, of those that it did not make before. */
  #loopOf({ period, length }: Run, at: number): Loop | undefined {
    if (length < period) return undefined
    const begin = at + 1 - length - period
    const least = Math.max(period, leastOfKind[this.#kindFrom(begin, period)])
    if (length < least) return undefined
    if (length === Math.max(least, leastRepeated)) return { from: begin, length: period }
    const from = at + 1 - period - least
    const isSentence = period >= leastSentence && this.#steps[from + period - 1]!.kind.endsSentence
    return isSentence ? { from, length: period } : undefined
  }

  /** Of a phrase: with a letter it is text, else with a figure figures. */
  #kindFrom(from: number, length: number): keyof typeof leastOfKind {
    let found: keyof typeof leastOfKind = 'marks'
    for (let at = from; at < from + length; at++) {
      const { kind } = this.#steps[at]!.kind
      if (kind === 'letters') return kind
      if (kind === 'figures') found = kind
    }
    return found
  }
}

function kindOf(text: string): keyof typeof leastOfKind {
  if (/\p{L}/u.test(text)) return 'letters'
  return /[\p{N}\p{Extended_Pictographic}]/u.test(text) ? 'figures' : 'marks'
}

function firstOf(one: Loop | undefined, other: Loop | undefined): Loop | undefined {
  if (!one || !other) return one ?? other
  return other.from < one.from || (other.from === one.from && other.length < one.length) ? other : one
}
