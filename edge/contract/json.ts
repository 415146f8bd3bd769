import { Buffer, isAscii } from 'node:buffer'
import { invalid } from './errors.ts'

export interface JsonLimits {
  /** Maximum keys and values, those of nested lists and objects included. Default: `maxJsonItems`. */
  maxItems?: number
  /** Maximum lists and objects inside of each other. Default: `maxJsonDepth`. */
  maxDepth?: number
}

/** Enough for a chat of 500 messages with an image, text and a name each. */
export const maxJsonItems = 10_000
export const maxJsonDepth = 64

/** Maximum characters outside of strings and of escaped quotes: as many steps does the check take at most. */
const maxSteps = 1024 * 1024

/**
 * Parses JSON of a stranger, whose items and depth are counted before anything is built of them: 20 MB of `[0,0,...`
 * would take seconds and gigabytes. Strings are skipped, so that an image in base64 costs next to nothing.
 *
 * @throws SyntaxError; TurbineError `json_too_complex`
 * @example parseJson('{"part_ids": ["a", "b"]}', { maxItems: 10 })
 */
export function parseJson(text: string, limits: JsonLimits = {}): unknown {
  assertSimple(text, limits)
  return JSON.parse(text)
}

/** Characters in which most hostile JSON shows itself. */
const headCharacters = 256 * 1024

/**
 * Decodes the JSON of a stranger from UTF-8, for `parseJson`. What is too complex is refused by its first part, before
 * megabytes are decoded.
 * @throws TurbineError `json_too_complex`
 */
export function decodeJson(bytes: Uint8Array, limits: JsonLimits = {}): string {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  // What structures JSON is ASCII, and no byte of another character is.
  if (buffer.length > headCharacters) assertSimple(buffer.toString('latin1', 0, headCharacters), limits)
  // Ten times as fast, and an image in base64 is ASCII.
  return isAscii(buffer) ? buffer.toString('latin1') : new TextDecoder().decode(buffer)
}

const quote = 0x22
const comma = 0x2c
const colon = 0x3a
const backslash = 0x5c
const openBracket = 0x5b
const closeBracket = 0x5d
const openBrace = 0x7b
const closeBrace = 0x7d

/**
 * Each key and each value but the first follows one of `[ { , :`. What is no JSON passes, but not more of it than JSON
 * within the limits could have.
 */
function assertSimple(text: string, { maxItems = maxJsonItems, maxDepth = maxJsonDepth }: JsonLimits): void {
  let items = 1
  let strings = 0
  let depth = 0
  let steps = 0
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case quote: {
        // Without a separator between them: the parser stops here too.
        if (++strings > items) return
        const string = skipString(text, at, maxSteps - steps)
        at = string.end
        steps += string.steps
        break
      }
      case openBracket:
      case openBrace:
        items++
        if (++depth > maxDepth) throw tooComplex(`lists or objects nested more than ${maxDepth} deep`)
        break
      case closeBracket:
      case closeBrace:
        depth--
        break
      case comma:
      case colon:
        items++
    }
    if (items > maxItems) throw tooComplex(`more than ${maxItems} keys and values`)
    if (++steps > maxSteps) throw tooComplex(`more than ${maxSteps} characters outside of its strings`)
  }
}

/**
 * Finds the quote that ends the string which begins at `start`, or the end of the text. A quote after an odd number of
 * backslashes is part of the string.
 */
function skipString(text: string, start: number, maxSteps: number) {
  let steps = 0
  for (let end = text.indexOf('"', start + 1); end !== -1; end = text.indexOf('"', end + 1)) {
    let backslashes = 0
    while (backslashes <= maxSteps && text.charCodeAt(end - 1 - backslashes) === backslash) backslashes++
    steps += backslashes
    if (backslashes % 2 === 0 || steps > maxSteps) return { end, steps }
  }
  return { end: text.length, steps }
}

const tooComplex = (what: string) =>
  invalid('json_too_complex', `The JSON has ${what}. Send only the fields that are documented.`)
