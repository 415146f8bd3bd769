import fc from 'fast-check'
import { expect, test } from 'vitest'
import { type BatchLoad, desiredReplicas, type LoadSnapshot, pressingRate } from './desired-replicas.ts'

const now = 1_790_000_000_000
const hourMs = 3_600_000
const none: LoadSnapshot = { arrivalRate: 0, waiting: 0, batches: [] }
const options = { throughput: 10 }

test('a fleet without work needs nothing', () => {
  expect(desiredReplicas(none, options, now)).toEqual({ interactive: 0, batch: 0 })
})

test('arrivals are to keep replicas busy for 70 % of their time, and a backlog is gone in half a minute', () => {
  expect(desiredReplicas({ ...none, arrivalRate: 70 }, options, now).interactive).toBeCloseTo(10)
  expect(desiredReplicas({ ...none, waiting: 2100 }, options, now).interactive).toBeCloseTo(10)
})

test('a batch takes as many as bring it home in time, and no more', () => {
  const batches = [{ deadline: now + hourMs, images: 10 * 3600 }]
  expect(desiredReplicas({ ...none, batches }, options, now).batch).toBeCloseTo(1 / 0.9)
})

test('batches due sooner go first: the most pressing of them together count', () => {
  const soon = { deadline: now + hourMs, images: 3600 }
  const later = { deadline: now + 10 * hourMs, images: 3600 }
  expect(pressingRate([later, soon], now)).toBeCloseTo(1)
  expect(pressingRate([soon, { ...later, images: 3600 * 19 }], now)).toBeCloseTo(2)
})

test('a batch that should be done already does not ask for the world', () => {
  expect(pressingRate([{ deadline: now - hourMs, images: 600 }], now)).toBeCloseTo(10)
})

const batches = fc.array(
  fc.record({ deadline: fc.integer({ min: now - hourMs, max: now + 24 * hourMs }), images: fc.nat(1e6) }),
  { maxLength: 8 },
)
const load = fc.record({
  arrivalRate: fc.float({ min: 0, max: 1e4, noNaN: true }),
  waiting: fc.nat(1e5),
  batches,
})

test('more load never needs fewer replicas', () => {
  const batch: fc.Arbitrary<BatchLoad> = fc.record({
    deadline: fc.integer({ min: now - hourMs, max: now + 24 * hourMs }),
    images: fc.nat(1e6),
  })
  fc.assert(
    fc.property(load, fc.nat(100), fc.nat(1000), batch, (before, rate, waiting, another) => {
      const needed = desiredReplicas(before, options, now)
      const more = {
        arrivalRate: before.arrivalRate + rate,
        waiting: before.waiting + waiting,
        batches: [...before.batches, another],
      }
      const after = desiredReplicas(more, options, now)
      expect(after.interactive).toBeGreaterThanOrEqual(needed.interactive)
      expect(after.batch).toBeGreaterThanOrEqual(needed.batch)
    }),
    { seed: 1, numRuns: 200 },
  )
})
