/** Words and marks of a text, as they follow each other. */
interface Unit {
  /** In lower case. */
  text: string
  /** Where it begins and ends. */
  from: number
  to: number
}

const words = new Intl.Segmenter('und', { granularity: 'word' })
const sentences = new Intl.Segmenter('und', { granularity: 'sentence' })

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
    .map(({ segment, index }) => ({ text: segment.toLowerCase(), from: index, to: index + segment.length }))
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

/** A text up to where it begins to repeat itself; undefined for one that does not. */
export function withoutLoop(text: string): string | undefined {
  const end = loopEnd(text)
  return end === undefined ? undefined : text.slice(0, end).replace(loopMarks, '')
}

/**
 * A text without what captions commonly begin with, the rest with a capital letter where the text had one. Openings are compared
 * regardless of case; several may follow each other. A text that is nothing else is left alone.
 * @example withoutOpening('The image shows a dog.', ['the image shows']) // 'A dog.'
 */
export function withoutOpening(text: string, openings: readonly string[]): string {
  const stripped = stripOpenings(text.trimStart(), openings)
  if (stripped === undefined || !hasWords(stripped)) return text
  const wasCapital = /^\s*\p{Lu}/u.test(text)
  return wasCapital ? capitalised(stripped) : stripped
}

/** Of openings that are there the longest is taken, until there is none. */
function stripOpenings(text: string, openings: readonly string[]): string | undefined {
  const found = openings
    .map((opening) => opening.trim().replace(/\s*(…|\.\.\.)$/u, ''))
    .filter((opening) => opening !== '' && beginsWith(text, opening))
    .toSorted((a, b) => b.length - a.length)[0]
  if (found === undefined) return undefined
  const rest = text.slice(found.length).replace(/^[\s,:;–—-]+/u, '')
  return stripOpenings(rest, openings) ?? rest
}

/** Whether a text begins with these words, and not with a part of a longer one, in scripts that part words. */
function beginsWith(text: string, opening: string): boolean {
  const head = text.slice(0, opening.length)
  if (head.toLowerCase() !== opening.toLowerCase()) return false
  const partsWords = /[\p{Lu}\p{Ll}\p{N}]$/u.test(head)
  return !partsWords || !/^[\p{L}\p{N}]/u.test(text.slice(opening.length))
}

export interface GrowingText {
  openings?: readonly string[]
  stop?: readonly string[]
  /** It is ended where it repeats itself. */
  endLoops?: boolean
  /** It is ended at its last whole sentence where a maximum of tokens cuts it. */
  wholeSentences?: boolean
}

/**
 * What is settled of a text that still grows: nothing while it may be an opening, and not what may be the begin of a text that
 * ends it, of a repetition or of half a sentence, nor half a character.
 */
export function settledText(
  text: string,
  { openings = [], stop = [], endLoops = false, wholeSentences: whole = false }: GrowingText,
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

const squeezed = (text: string) => text.toLowerCase().replaceAll(/\s+/gu, '')

/** The sentences of a text behind which another one has begun, so that their ends are certain. */
function followedSentences(text: string): string {
  const parts = sentencesOf(text)
  const begun = parts.findLastIndex((part) => /\p{L}/u.test(part))
  return upToLastEnd(parts.slice(0, Math.max(0, begun))) ?? ''
}

const sentencesOf = (text: string) => [...sentences.segment(text)].map(({ segment }) => segment)

/** The parts up to the last that is a whole sentence; undefined when none is. */
function upToLastEnd(parts: readonly string[]): string | undefined {
  const last = parts.findLastIndex((part) => sentenceEnd.test(part) && !noSentenceEnd.test(part))
  return last < 0
    ? undefined
    : parts
        .slice(0, last + 1)
        .join('')
        .trimEnd()
}

const hasWords = (text: string) => /[\p{L}\p{N}]/u.test(text)

/** Characters at the end of a text that are the begin of another. */
function overlap(text: string, other: string): number {
  let length = Math.min(text.length, other.length - 1)
  while (length > 0 && !text.endsWith(other.slice(0, length))) length--
  return length
}

const capitalised = (text: string) =>
  text.replace(/^(\P{L}*)(\p{Ll})/u, (_, before: string, letter: string) =>
    /\p{N}/u.test(before) ? before + letter : before + letter.toUpperCase(),
  )

/** Ends of a sentence: a mark of any script, perhaps in quotes or brackets. */
const sentenceEnd = /[\p{Sentence_Terminal}…][\p{Pe}\p{Pf}\p{Po}"']*\s*$/u
/** Dots that end no sentence: of titles, initials and the numbers of lists. */
const noSentenceEnd =
  /(^|[\s(])(mr|mrs|ms|mx|dr|prof|st|sr|jr|mt|ft|vs|approx|ca|no|nr|e\.g|i\.e|z\.b)\.\s*$|(^|[\s.(])\p{Lu}\.\s*$|^\s*\d{1,3}\.\s*$/iu

/** A text that was cut, up to its last whole sentence; all of it where it has none. */
export const wholeSentences = (text: string): string => upToLastEnd(sentencesOf(text)) ?? text
