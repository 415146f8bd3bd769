import fc from 'fast-check'
import { expect, test } from 'vitest'
import { priorityOf } from './priority.ts'

const minute = 60_000
const hour = 60 * minute

test('of two shards the one with less time goes first, though it comes a little later', () => {
  expect(priorityOf(10 * minute, 5_000)).toBeLessThan(priorityOf(24 * hour, 0))
  expect(priorityOf(minute, 2_000)).toBeLessThan(priorityOf(10 * minute, 0))
})

test('among shards with much time the first goes first', () => {
  expect(priorityOf(30 * hour, 0)).toBeLessThan(priorityOf(2 * hour, 1))
})

test('no shard waits for one that comes a minute later, and equal ones keep their order', () => {
  const times = fc.record({ now: fc.nat(1e9), left: fc.integer({ min: -1e6, max: 1e9 }) })
  fc.assert(
    fc.property(times, times, (a, b) => {
      const priorities = [a, b].map(({ now, left }) => priorityOf(now + left, now))
      if (b.now - a.now > minute || (a.left === b.left && a.now <= b.now))
        expect(priorities[0]).toBeLessThanOrEqual(priorities[1]!)
    }),
  )
})
