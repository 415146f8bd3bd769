import fc from 'fast-check'
import { expect, test } from 'vitest'
import { latestStarts } from './latest-starts.ts'

/** Times of runs of 0 to 4 images: each costs 10, each row 5. */
const runMs = [0, 15, 20, 25, 30]

test('nothing to serve can begin at any time', () => {
  expect(latestStarts([], runMs)).toEqual([Infinity])
})

test('a run has to end when its tightest image is due, and leaves the time that later runs take', () => {
  expect(latestStarts([100], runMs)).toEqual([85, Infinity])
  expect(latestStarts([100, 100], runMs)[0]).toBe(80)
  // The first is alone: with the second its run would take until 20.
  expect(latestStarts([16, 100], runMs)).toEqual([1, 85, Infinity])
  expect(latestStarts([16, 30], runMs)[0]).toBe(0)
})

test('says when there is no way, and does not mind images that need not be in time', () => {
  expect(latestStarts([16, 28], runMs)[0]).toBeLessThan(0)
  expect(latestStarts([Infinity, Infinity], runMs)).toEqual([Infinity, Infinity, Infinity])
  expect(latestStarts([Infinity, 100], runMs)[0]).toBe(80)
})

/** All ways to cut the images into runs, tried one by one. */
function latestOfAllCuts(ends: readonly number[], times: readonly number[]): number {
  if (ends.length === 0) return Number.POSITIVE_INFINITY
  const starts = times.slice(1, ends.length + 1).map((ms, index) => {
    const size = index + 1
    const tightest = Math.min(...ends.slice(0, size))
    return Math.min(tightest, latestOfAllCuts(ends.slice(size), times)) - ms
  })
  return Math.max(...starts)
}

test('finds the best of all ways to cut the images into runs', () => {
  const ends = fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 9 })
  const times = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 4 })
  fc.assert(
    fc.property(ends, times, (unsorted, steps) => {
      const sorted = unsorted.toSorted((a, b) => a - b)
      let total = 0
      const sums = [0, ...steps.map((ms) => (total += ms))]
      expect(latestStarts(sorted, sums)[0]).toBe(latestOfAllCuts(sorted, sums))
    }),
    { seed: 1, numRuns: 200 },
  )
})
