import fc from 'fast-check'
import { expect, test } from 'vitest'
import { LineSplitter, type LineSplitterOptions } from './lines.ts'

const bytesOf = (text: string) => new TextEncoder().encode(text)

/** The lines of bytes that come in pieces of these lengths. */
function split(bytes: Uint8Array, pieces: number[], options: LineSplitterOptions = {}) {
  const splitter = new LineSplitter(options)
  const lines = []
  let at = 0
  for (const length of pieces) {
    lines.push(...splitter.push(bytes.subarray(at, at + length)))
    at += length
  }
  return [...lines, ...splitter.push(bytes.subarray(at)), ...splitter.end()]
}

test('numbers, places and texts', () => {
  expect(split(bytesOf('a\r\n\nbé'), [])).toEqual([
    { number: 1, start: 0, end: 3, text: 'a\r' },
    { number: 2, start: 3, end: 4, text: '' },
    { number: 3, start: 4, end: 7, text: 'bé' },
  ])
})

test('begins with the number that it is told', () => {
  expect(split(bytesOf('a\nb\n'), [], { firstLine: 10 })).toEqual([
    { number: 10, start: 0, end: 2, text: 'a' },
    { number: 11, start: 2, end: 4, text: 'b' },
  ])
})

test('the pieces that the bytes come in make no difference', () => {
  const text = fc.array(fc.constantFrom('a', 'é', '😀', '\u2028', '\n', '\r\n'), { maxLength: 40 })
  const pieces = fc.array(fc.nat({ max: 9 }))
  fc.assert(
    fc.property(text, pieces, (parts, pieces) => {
      const whole = parts.join('')
      const lines = split(bytesOf(whole), pieces)
      const expected = whole.split('\n')
      if (expected.at(-1) === '') expected.pop()
      expect(lines.map(({ text }) => text)).toEqual(expected)
      expect(lines).toEqual(split(bytesOf(whole), []))
    }),
  )
})

test('a line that is too long is skipped, and the ones around it are not', () => {
  const bytes = bytesOf(`ab\n${'x'.repeat(50)}\ncd`)
  for (const pieces of [[], [10, 10, 10, 10], Array(60).fill(1)]) {
    expect(split(bytes, pieces, { maxBytes: 20 })).toEqual([
      { number: 1, start: 0, end: 3, text: 'ab' },
      { number: 2, start: 3, end: 54, text: undefined, unreadable: 'too_long' },
      { number: 3, start: 54, end: 56, text: 'cd' },
    ])
  }
})

test('bytes that are not UTF-8 spoil their own line alone', () => {
  const bytes = Uint8Array.of(0x61, 0x0a, 0xff, 0x62, 0x0a, 0x63, 0x0a, 0xc3)
  for (const pieces of [[], [3], [1, 1, 1, 1, 1, 1, 1]]) {
    expect(split(bytes, pieces).map(({ text, unreadable }) => text ?? unreadable)).toEqual([
      'a',
      'not_utf8',
      'c',
      'not_utf8',
    ])
  }
})

test('what is not UTF-8 is replaced where that is asked for', () => {
  const bytes = Uint8Array.of(0x61, 0x0a, 0x62, 0xc3)
  for (const pieces of [[], [1, 1, 1]])
    expect(split(bytes, pieces, { fatal: false }).map(({ text }) => text)).toEqual(['a', 'b\uFFFD'])
})
