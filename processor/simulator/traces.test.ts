import { expect, test } from 'vitest'
import { seededRandom } from '../../infra/starter-model/random.ts'
import { type Arrival, burst, diurnal, poissonArrivals, steady } from './traces.ts'

const perSecondIn = (arrivals: Arrival[], from: number, to: number) =>
  (1000 * arrivals.filter(({ at }) => at >= from && at < to).length) / (to - from)

test('steady arrivals are a Poisson process: their number and its spread over seconds are the rate', () => {
  const arrivals = poissonArrivals(steady({ perSecond: 40, durationMs: 500_000 }), seededRandom(1))
  const counts = Array.from({ length: 500 }, (_, second) =>
    perSecondIn(arrivals, 1000 * second, 1000 * (second + 1)),
  )
  const mean = counts.reduce((sum, count) => sum + count, 0) / counts.length
  const variance = counts.reduce((sum, count) => sum + (count - mean) ** 2, 0) / counts.length
  expect(mean).toBeCloseTo(40, -0.5)
  expect(variance / mean).toBeGreaterThan(0.8)
  expect(variance / mean).toBeLessThan(1.25)
})

test('a burst has its factor while it lasts, and the base rate before and after', () => {
  const curve = burst({ perSecond: 20, factor: 10, burstAtMs: 30_000, burstMs: 20_000, durationMs: 90_000 })
  const arrivals = poissonArrivals(curve, seededRandom(2))
  expect(perSecondIn(arrivals, 0, 30_000)).toBeCloseTo(20, -1)
  expect(perSecondIn(arrivals, 30_000, 50_000) / 200).toBeCloseTo(1, 1)
  expect(perSecondIn(arrivals, 50_000, 90_000)).toBeCloseTo(20, -1)
})

test('a day is quietest at its ends and busiest in the middle', () => {
  const curve = diurnal({ perSecond: 5, factor: 10, durationMs: 3_600_000 })
  const rates = [0, 900_000, 1_800_000, 3_600_000].map((at) => curve.perSecond(at))
  expect(rates.map((rate) => Math.round(10 * rate) / 10)).toEqual([5, 27.5, 50, 5])
})

test('arrivals come in the order of time, the same for the same seed and others for another', () => {
  const curve = steady({ perSecond: 100, durationMs: 5_000 })
  const arrivals = poissonArrivals(curve, seededRandom(3))
  expect(arrivals).toEqual(arrivals.toSorted((a, b) => a.at - b.at))
  expect(poissonArrivals(curve, seededRandom(3))).toEqual(arrivals)
  expect(poissonArrivals(curve, seededRandom(4))).not.toEqual(arrivals)
})
