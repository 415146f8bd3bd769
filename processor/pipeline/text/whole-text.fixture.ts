import {
  hasWords,
  isWholeSentence,
  overlap,
  sentencesOf,
  stripOpenings,
  withoutOpening,
} from './caption-text.ts'
import type { GrowingTextRules } from './growing-text.ts'

// Rules of texts that grow, which look at the whole text each time: those that look at what is new have to equal them.

/** Words and marks of a text, as they follow each other. */
interface Unit {
  /** In lower case. */
  text: string
  /** Where it begins and ends. */
  from: number
  to: number
}

const lowerCase = (text: string) => text.toLowerCase().replaceAll('ς', 'σ')

const words = new Intl.Segmenter('und', { granularity: 'word' })

/** Words that a phrase repeats beside its first occurrence, of which fewer are no loop: "very, very, very large". */
const leastRepeated = 6
/** The same of figures and emoji, as tables and signs have them, and of marks alone: rules, dots. */
const leastFiguresRepeated = 9
const leastMarksRepeated = 24
const sentenceMark = /^\p{Sentence_Terminal}$/u
/** Units of a whole sentence that is a loop when it comes twice. */
const leastSentence = 4

/**
 * Where a text that repeats a phrase over and over, as models do that are caught in a loop, has said it once; undefined for one
 * that does not. A phrase counts with its punctuation, in any script.
 * @example loopEnd('a dog and a dog and a dog and a dog and a dog') // 9, behind "a dog and"
 */
export function loopEnd(text: string): number | undefined {
  const units = unitsOf(text)
  for (let from = 0; from < units.length; from++) {
    const length = loopLength(units, from)
    if (length !== undefined) {
      // The mark that ends what is before ends the phrase too.
      const end = length > 1 && sentenceMark.test(units[from]!.text) ? from + length : from + length - 1
      return units[end]!.to
    }
  }
  return undefined
}

function unitsOf(text: string): Unit[] {
  return [...words.segment(text)]
    .filter(({ segment }) => segment.trim() !== '')
    .map(({ segment, index }) => ({ text: lowerCase(segment), from: index, to: index + segment.length }))
}

/** Units of the shortest phrase that is repeated from here on; undefined when there is none. */
function loopLength(units: readonly Unit[], from: number): number | undefined {
  const most = (units.length - from) >> 1
  for (let length = 1; length <= most; length++) {
    let repeated = 0
    while (units[from + length + repeated]?.text === units[from + repeated]!.text) repeated++
    if (repeated < length) continue
    if (repeated < leastOf(units.slice(from, from + length))) continue
    const isSentence = length >= leastSentence && sentenceMark.test(units[from + length - 1]!.text)
    if (repeated >= leastRepeated || isSentence) return length
  }
  return undefined
}

/** Marks that end no text. */
const loopMarks = /[\s,;:–—-]+$/u

/** Repetitions of a phrase below which it is no loop, whatever else. */
function leastOf(phrase: readonly Unit[]): number {
  const text = phrase.map((unit) => unit.text).join('')
  if (/\p{L}/u.test(text)) return 0
  return /[\p{N}\p{Extended_Pictographic}]/u.test(text) ? leastFiguresRepeated : leastMarksRepeated
}

/**
 * What is settled of a text that still grows: nothing while it may be an opening, and not what may be the begin of a text that
 * ends it, of a repetition or of half a sentence, nor half a character.
 */
export function settledText(
  text: string,
  { openings = [], stop = [], endLoops = false, wholeSentences: whole = false }: GrowingTextRules,
): string {
  const decoded = text.replace(/\uFFFD+$/u, '')
  const unstopped = decoded.slice(
    0,
    decoded.length - Math.max(0, ...stop.map((each) => overlap(decoded, each))),
  )
  const unlooped = endLoops ? beforeRepetition(unstopped) : unstopped
  const settled = whole ? followedSentences(unlooped) : unlooped
  const rest = stripOpenings(settled.trimStart(), openings) ?? settled.trimStart()
  const mayBeOpening = openings.some((opening) => opening.toLowerCase().startsWith(rest.toLowerCase()))
  if (openings.length > 0 && (mayBeOpening || !hasWords(rest))) return ''
  return withoutOpening(settled, openings)
}

/** A text up to where it has repeated itself, or says again what it said before, up to its end: a loop may begin there. */
function beforeRepetition(text: string): string {
  const ends = [loopEnd(text) ?? text.length, lastSaidBefore(text)]
  return text.slice(0, Math.min(...ends)).replace(loopMarks, '')
}

/** Where the longest end of a text begins that is in the text before, too: of words, regardless of spaces. */
function lastSaidBefore(text: string): number {
  const said = squeezed(text)
  const units = unitsOf(text)
  const isRepeated = ({ from }: Unit) => {
    const end = squeezed(text.slice(from))
    return said.indexOf(end) < said.length - end.length
  }
  // What is repeated is so with each shorter end.
  let [low, high] = [0, units.length]
  while (low < high) {
    const middle = (low + high) >> 1
    if (isRepeated(units[middle]!)) high = middle
    else low = middle + 1
  }
  return units[low]?.from ?? text.length
}

const squeezed = (text: string) => lowerCase(text).replaceAll(/\s+/gu, '')

/** The sentences of a text behind which another one has begun, so that their ends are certain. */
function followedSentences(text: string): string {
  const parts = sentencesOf(text)
  const begun = parts.findLastIndex((part) => /\p{L}/u.test(part))
  return upToLastEnd(parts.slice(0, Math.max(0, begun))) ?? ''
}

function upToLastEnd(parts: readonly string[]): string | undefined {
  const last = parts.findLastIndex(isWholeSentence)
  return last < 0
    ? undefined
    : parts
        .slice(0, last + 1)
        .join('')
        .trimEnd()
}
