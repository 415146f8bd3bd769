import { expect, test } from 'vitest'
import { InvalidRangeError, resolveRange } from './range.ts'

test.each([
  [undefined, { start: 0, end: 10 }],
  [{ start: 0 }, { start: 0, end: 10 }],
  [{ start: 9 }, { start: 9, end: 10 }],
  [
    { start: 2, end: 2 },
    { start: 2, end: 3 },
  ],
  [
    { start: 2, end: 99 },
    { start: 2, end: 10 },
  ],
])('%j of 10 bytes', (range, expected) => {
  expect(resolveRange(10, range)).toEqual(expected)
})

test.each([{ start: 10 }, { start: -1 }, { start: 5, end: 4 }, { start: 0.5 }])('refuses %j', (range) => {
  expect(() => resolveRange(10, range)).toThrow(InvalidRangeError)
})

test('an empty object has no ranges, but can be read whole', () => {
  expect(resolveRange(0)).toEqual({ start: 0, end: 0 })
  expect(() => resolveRange(0, { start: 0 })).toThrow(InvalidRangeError)
})
