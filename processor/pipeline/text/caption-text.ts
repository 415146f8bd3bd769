import { LoopSearch } from './loop-search.ts'
import { unitsOf } from './units.ts'

const sentences = new Intl.Segmenter('und', { granularity: 'sentence' })

/**
 * Where a text that repeats a phrase over and over, as models do that are caught in a loop, has said it once; undefined for one
 * that does not. A phrase counts with its punctuation, in any script.
 * @example loopEnd('a dog and a dog and a dog and a dog and a dog') // 9, behind "a dog and"
 */
export function loopEnd(text: string): number | undefined {
  const search = new LoopSearch()
  const units = unitsOf(text)
  for (const unit of units) search.push(unit.text)
  return search.end === undefined ? undefined : units[search.end]!.to
}

const loopMark = /[\s,;:–—-]/u

/** A text without marks at its end that end none. */
export function withoutLoopMarks(text: string): string {
  let end = text.length
  while (end > 0 && loopMark.test(text[end - 1]!)) end--
  return text.slice(0, end)
}

/** A text up to where it begins to repeat itself; undefined for one that does not. */
export function withoutLoop(text: string): string | undefined {
  const end = loopEnd(text)
  return end === undefined ? undefined : withoutLoopMarks(text.slice(0, end))
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
export function stripOpenings(text: string, openings: readonly string[]): string | undefined {
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

export const sentencesOf = (text: string) => [...sentences.segment(text)].map(({ segment }) => segment)

/** The parts up to the last that is a whole sentence; undefined when none is. */
function upToLastEnd(parts: readonly string[]): string | undefined {
  const last = parts.findLastIndex(isWholeSentence)
  return last < 0
    ? undefined
    : parts
        .slice(0, last + 1)
        .join('')
        .trimEnd()
}

export const hasWords = (text: string) => /[\p{L}\p{N}]/u.test(text)

/** Characters at the end of a text that are the begin of another. */
export function overlap(text: string, other: string): number {
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

export const isWholeSentence = (part: string) => sentenceEnd.test(part) && !noSentenceEnd.test(part)

/** A text that was cut, up to its last whole sentence; all of it where it has none. */
export const wholeSentences = (text: string): string => upToLastEnd(sentencesOf(text)) ?? text
