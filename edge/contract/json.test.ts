import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TurbineError } from './errors.ts'
import { decodeJson, type JsonLimits, parseJson } from './json.ts'

const megabyte = 2 ** 20
const tooComplex = (what: string) =>
  expect.objectContaining({ status: 400, code: 'json_too_complex', message: expect.stringContaining(what) })

/** Parses and says whether the text was left to `JSON.parse`, by its error or result. */
const outcome = (text: string, limits?: JsonLimits) => {
  try {
    return { value: parseJson(text, limits) }
  } catch (error) {
    return { error }
  }
}

test.each<[string, string, string]>([
  ['numbers', `{"messages":[${'0,'.repeat(10 * megabyte)}0]}`, 'more than 10000 keys and values'],
  ['objects', `[${'{},'.repeat(6 * megabyte)}0]`, 'more than 10000 keys and values'],
  ['keys', `{${'"k":0,'.repeat(3 * megabyte)}"k":0}`, 'more than 10000 keys and values'],
  ['strings', `[${'"\\"",'.repeat(3 * megabyte)}""]`, 'more than 10000 keys and values'],
  ['lists in lists', '['.repeat(20 * megabyte), 'nested more than 64 deep'],
  ['objects in objects', '{"a":'.repeat(4 * megabyte), 'nested more than 64 deep'],
  ['one number', `[${'1'.repeat(20 * megabyte)}]`, 'characters outside of its strings'],
  ['white space', `[${' '.repeat(20 * megabyte)}]`, 'characters outside of its strings'],
  ['letters', 'x'.repeat(20 * megabyte), 'characters outside of its strings'],
  ['escaped quotes', `["${'\\"'.repeat(10 * megabyte)}"]`, 'characters outside of its strings'],
  ['backslashes', `["${'\\\\'.repeat(10 * megabyte)}"]`, 'characters outside of its strings'],
])('20 MB of %s are refused before they are parsed', (_, text, what) => {
  expect(outcome(text).error).toEqual(tooComplex(what))
})

test.each([
  ['base64', `["data:image/png;base64,${'QUJD'.repeat(5 * megabyte)}"]`],
  ['escaped slashes', `["${'\\/'.repeat(10 * megabyte)}"]`],
])('one string with 20 MB of %s is parsed', (_, text) => {
  const [string] = parseJson(text) as [string]
  expect(string.length).toBeGreaterThan(9 * megabyte)
})

test('strings without a separator are left to the parser, which stops at the second', () => {
  expect(outcome('""'.repeat(10 * megabyte)).error).toBeInstanceOf(SyntaxError)
})

test('keys and values are counted as far as the limit', () => {
  const items = (count: number) => `{"a":[${Array(count - 3).fill('"x"')}]}`
  expect(parseJson(items(10), { maxItems: 12 })).toEqual({ a: Array(7).fill('x') })
  expect(outcome(items(100), { maxItems: 99 }).error).toEqual(tooComplex('more than 99 keys'))
  expect(outcome('[[[]]]', { maxDepth: 3 })).toEqual({ value: [[[]]] })
  expect(outcome('[[[]]]', { maxDepth: 2 }).error).toEqual(tooComplex('more than 2 deep'))
  expect(outcome('[[],[],{"a":[]}]', { maxDepth: 3 })).toEqual({ value: [[], [], { a: [] }] })
})

const countItems = (value: unknown): number =>
  typeof value !== 'object' || value === null
    ? 1
    : Object.entries(value).reduce(
        (sum, [, child]) => sum + countItems(child) + (Array.isArray(value) ? 0 : 1),
        1,
      )

const depthOf = (value: unknown): number =>
  typeof value === 'object' && value !== null ? 1 + Math.max(0, ...Object.values(value).map(depthOf)) : 0

test('any JSON with no more than the limits is parsed, any with more is refused', () => {
  fc.assert(
    fc.property(
      fc.jsonValue({ maxDepth: 6, stringUnit: 'binary' }),
      fc.nat(40),
      fc.nat(5),
      fc.constantFrom(0, 1, '\t '),
      (value, maxItems, maxDepth, space) => {
        const { value: parsed, error } = outcome(JSON.stringify(value, null, space), { maxItems, maxDepth })
        const [items, depth] = [countItems(value), depthOf(value)]
        if (items > maxItems || depth > maxDepth) expect(error).toBeInstanceOf(TurbineError)
        // Empty lists and objects count as if they had an item.
        else if (error === undefined) expect(JSON.stringify(parsed)).toBe(JSON.stringify(value))
        else
          expect(items + [...JSON.stringify(value).matchAll(/\[\]|\{\}/g)].length).toBeGreaterThan(maxItems)
      },
    ),
  )
})

/** Text that looks like JSON to a parser for a while. */
const nearlyJson = fc
  .array(
    fc.constantFrom(
      '{',
      '}',
      '[',
      ']',
      ',',
      ':',
      '"',
      '\\',
      '\\"',
      '\\u0000',
      ' ',
      '1',
      'null',
      'é',
      '\ud800',
    ),
  )
  .map((tokens) => tokens.join(''))

test('any text has the result or the error of JSON.parse, unless it is too complex', () => {
  fc.assert(
    fc.property(fc.oneof(nearlyJson, fc.string({ unit: 'binary' })), (text) => {
      const { value, error } = outcome(text, { maxItems: 1000 })
      if (error === undefined) expect(value).toEqual(JSON.parse(text))
      else expect(error).toBeInstanceOf(SyntaxError)
    }),
    { numRuns: 1000 },
  )
})

const utf8 = (text: string) => new TextEncoder().encode(text)

test.each(['{"a":"b"}', '{"a":"bär"}', '\uFEFF{"a":"b"}', `["${'😀'.repeat(100_000)}"]`])(
  'bytes are decoded as UTF-8, whatever is in them (%#)',
  (text) => {
    expect(decodeJson(utf8(text))).toBe(text.replace(/^\uFEFF/, ''))
    // A part of larger memory.
    expect(decodeJson(utf8(`xx${text}`).subarray(2))).toBe(text.replace(/^\uFEFF/, ''))
  },
)

test('what is too complex is refused by its first part', () => {
  const bytes = utf8(`[${'0,'.repeat(megabyte)}"`)
  expect(() => decodeJson(bytes)).toThrow('more than 10000 keys and values')
  // A string that begins in that part is in nobody's way, nor is a character that its end cuts.
  expect(decodeJson(utf8(`["${'ä'.repeat(megabyte)}"]`))).toHaveLength(megabyte + 4)
  expect(decodeJson(utf8(`["x${'ä'.repeat(megabyte)}"]`))).toHaveLength(megabyte + 5)
})
