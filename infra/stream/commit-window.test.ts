import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CommitWindow } from './commit-window.ts'

test('starts at the committed position', () => {
  expect(new CommitWindow(5n).position).toBe(5n)
})

test('moves over finished offsets only up to the lowest unfinished one', () => {
  const window = new CommitWindow(0n)
  for (const offset of [0n, 1n, 2n]) window.begin(offset)
  window.finish(2n)
  window.finish(1n)
  expect(window.position).toBe(0n)
  window.finish(0n)
  expect(window.position).toBe(3n)
})

test('steps over gaps between offsets', () => {
  const window = new CommitWindow(0n)
  window.begin(4n)
  window.begin(9n)
  window.finish(4n)
  expect(window.position).toBe(9n)
  window.finish(9n)
  expect(window.position).toBe(10n)
})

test('goes back to an offset that is left to others', () => {
  const window = new CommitWindow(0n)
  for (const offset of [0n, 1n, 2n, 3n]) window.begin(offset)
  window.finish(2n)
  window.rewind(1n)
  expect(window.position).toBe(0n)
  window.finish(0n)
  expect(window.position).toBe(1n)
  for (const offset of [1n, 2n, 3n]) window.begin(offset)
  window.finish(1n)
  expect(window.position).toBe(2n)
})

test('refuses an offset that began before', () => {
  const window = new CommitWindow(3n)
  window.begin(3n)
  expect(() => window.begin(3n)).toThrow(RangeError)
})

test('whatever the order of finishing, the position is the lowest unfinished offset', () => {
  const orders = fc
    .integer({ min: 1, max: 40 })
    .chain((count) => fc.shuffledSubarray([...Array(count).keys()]).map((finished) => ({ count, finished })))
  fc.assert(
    fc.property(orders, ({ count, finished }) => {
      const window = new CommitWindow(0n)
      for (let offset = 0; offset < count; offset++) window.begin(BigInt(offset))
      for (const offset of finished) window.finish(BigInt(offset))
      const lowest = [...Array(count).keys()].find((offset) => !finished.includes(offset)) ?? count
      expect(window.position).toBe(BigInt(lowest))
    }),
  )
})
