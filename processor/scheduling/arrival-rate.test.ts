import { expect, test } from 'vitest'
import { ArrivalRate } from './arrival-rate.ts'

const arrive = (rate: ArrivalRate, { from, to, everyMs }: { from: number; to: number; everyMs: number }) => {
  for (let now = from; now < to; now += everyMs) rate.observe(now)
}

test('nothing has come: 0', () => {
  expect(new ArrivalRate().perSecond(1000)).toBe(0)
})

test('settles at a steady rate', () => {
  const rate = new ArrivalRate()
  arrive(rate, { from: 0, to: 20_000, everyMs: 25 })
  expect(rate.perSecond(20_000)).toBeCloseTo(40, 0)
})

test('follows a tenfold jump within one time constant by more than half, and forgets it after', () => {
  const rate = new ArrivalRate({ timeConstantMs: 1000 })
  arrive(rate, { from: 0, to: 10_000, everyMs: 100 })
  arrive(rate, { from: 10_000, to: 11_000, everyMs: 10 })
  expect(rate.perSecond(11_000)).toBeGreaterThan(60)
  expect(rate.perSecond(16_000)).toBeLessThan(1)
})

test('a clock that runs backwards does not blow the rate up', () => {
  const rate = new ArrivalRate()
  rate.observe(10_000)
  rate.observe(5000)
  expect(rate.perSecond(10_000)).toBe(1)
})
