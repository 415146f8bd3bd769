import { expect, test } from 'vitest'
import { CaptionLengths } from './caption-lengths.ts'

const after = (...runs: [count: number, ids: number, ended: boolean][]): CaptionLengths => {
  const lengths = new CaptionLengths()
  for (const [count, ids, ended] of runs)
    for (let caption = 0; caption < count; caption++) lengths.observe({ ids, ended })
  return lengths
}

test('where nothing is known more may become longer', () => {
  const lengths = new CaptionLengths()
  expect(lengths.longest([1])).toBeCloseTo(1, 1)
  expect(lengths.longest([20])).toBeGreaterThan(15)
  expect(lengths.longest([1000])).toBeGreaterThan(5 * lengths.longest([20]))
})

test.each([
  [12, 20, 12],
  [12, 1000, 12],
  [300, 20, 20],
  [300, 1000, 300],
  [300, 100, 100],
])('captions of %i ids with at most %i become about %i', (ids, most, expected) => {
  const predicted = after([200, ids, true]).longest([most])
  expect(Math.abs(predicted / expected - 1)).toBeLessThan(0.2)
})

test('one that was cut tells nothing of what it would have had', () => {
  const lengths = after([200, 20, false])
  expect(lengths.longest([20])).toBeCloseTo(20, 0)
  expect(lengths.longest([1000])).toBeGreaterThan(100)
})

test('follows captions that change', () => {
  const lengths = after([500, 12, true], [200, 200, true])
  expect(lengths.longest([1000])).toBeGreaterThan(150)
})

test('the longest of several is longer than one, and no longer than the most', () => {
  const mixed = Array.from({ length: 200 }, (_, index): [number, number, boolean] => [
    1,
    index % 2 ? 10 : 100,
    true,
  ])
  const lengths = after(...mixed)
  const one = lengths.longest([1000])
  const four = lengths.longest([1000, 1000, 1000, 1000])
  expect(four).toBeGreaterThan(1.2 * one)
  expect(lengths.longest([20, 20, 20, 20])).toBeLessThanOrEqual(20)
  expect(lengths.longest([20, 20, 20, 1000])).toBeGreaterThanOrEqual(one)
  expect(lengths.longest([])).toBe(0)
})
