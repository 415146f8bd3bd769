import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DecodingCost } from './decoding-cost.ts'

const after = (...ms: number[]) => {
  const cost = new DecodingCost()
  for (const each of ms) cost.observe(each)
  return cost.ms
}
const steady = (count: number, ms = 10) => new Array<number>(count).fill(ms)

test('knows nothing at first, then the mean', () => {
  expect(after()).toBe(0)
  expect(after(10)).toBe(10)
  expect(after(5, 10, 15)).toBeCloseTo(10)
})

test('a slow first image is soon made up for', () => {
  expect(after(100, ...steady(19))).toBeLessThan(15)
})

test('an outlier counts as four times the mean, once', () => {
  expect(after(...steady(100), 100_000)).toBeCloseTo(11.5)
  expect(after(...steady(100), 100_000, ...steady(40))).toBeCloseTo(10, 0)
})

test('follows a lasting change', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.1, max: 10, noNaN: true }), (factor) => {
      const slower = after(...steady(50), ...steady(150, 10 * factor))
      expect(slower / (10 * factor)).toBeCloseTo(1, 1)
    }),
    { seed: 1, numRuns: 50 },
  )
})

test('images of different sizes count with what they cost', () => {
  const mixed = Array.from({ length: 400 }, (_, i) => (i % 2 === 0 ? 5 : 15))
  expect(after(...mixed)).toBeCloseTo(10, 0)
})
