import { expect, test } from 'vitest'
import { burstTrace, poissonArrivals } from './arrivals.ts'

const within = (arrivals: number[], fromMs: number, toMs: number) =>
  arrivals.filter((at) => at >= fromMs && at < toMs).length

test('arrivals ascend, at the rate of their phase', () => {
  const arrivals = poissonArrivals(
    [
      { seconds: 100, perSecond: 10 },
      { seconds: 100, perSecond: 100 },
    ],
    1,
  )
  expect(arrivals).toEqual(arrivals.toSorted((a, b) => a - b))
  // Four standard deviations of a Poisson count.
  expect(Math.abs(within(arrivals, 0, 100_000) - 1000)).toBeLessThan(4 * Math.sqrt(1000))
  expect(Math.abs(within(arrivals, 100_000, 200_000) - 10_000)).toBeLessThan(4 * Math.sqrt(10_000))
  expect(arrivals.at(-1)).toBeLessThan(200_000)
})

test('gaps vary as those of a Poisson process: their standard deviation is their mean', () => {
  const arrivals = poissonArrivals([{ seconds: 1000, perSecond: 10 }], 2)
  const gaps = arrivals.slice(1).map((at, i) => at - arrivals[i]!)
  const mean = gaps.reduce((sum, gap) => sum + gap, 0) / gaps.length
  const variance = gaps.reduce((sum, gap) => sum + (gap - mean) ** 2, 0) / gaps.length
  expect(Math.sqrt(variance) / mean).toBeCloseTo(1, 1)
})

test('the same seed gives the same arrivals, another seed others', () => {
  const phases = [{ seconds: 1, perSecond: 100 }]
  expect(poissonArrivals(phases, 1)).toEqual(poissonArrivals(phases, 1))
  expect(poissonArrivals(phases, 1)).not.toEqual(poissonArrivals(phases, 2))
})

test('a burst is ten times the load before and after it', () => {
  const { arrivalsMs, beginMs, endMs, durationMs, baseRate } = burstTrace({
    burstRate: 100,
    seconds: 200,
    seed: 3,
  })
  expect({ beginMs, endMs, durationMs, baseRate }).toEqual({
    beginMs: 100_000,
    endMs: 300_000,
    durationMs: 450_000,
    baseRate: 10,
  })
  const perSecond = (fromMs: number, toMs: number) =>
    (1000 * within(arrivalsMs, fromMs, toMs)) / (toMs - fromMs)
  expect(perSecond(beginMs, endMs) / 100).toBeCloseTo(1, 1)
  expect(perSecond(0, beginMs) / 10).toBeCloseTo(1, 0)
  expect(perSecond(endMs, durationMs) / 10).toBeCloseTo(1, 0)
})
