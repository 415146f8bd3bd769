import fc from 'fast-check'
import { expect, test } from 'vitest'
import { sendWindow } from './send-window.ts'
import { ResendPolicy } from './shard-sender.ts'

/** The window of one of several batches that need the same. */
const windowOfEqual = (shardsPerSecond: number, batches: number) =>
  sendWindow({ shardsPerSecond, need: 3, senders: { batches, need: 3 * batches } })

test.each([
  [0, 1, 16],
  [10, 1, 300],
  [10, 3, 100],
  [1e6, 1, 10_000],
  [0, 1000, 2],
])('at %d shards per second each of %d equal batches may have %d', (shardsPerSecond, batches, shards) => {
  expect(windowOfEqual(shardsPerSecond, batches)).toBe(shards)
})

test('a batch whose lines are not counted yet is not held up', () => {
  expect(sendWindow({ shardsPerSecond: 0, need: 0, senders: { batches: 0, need: 0 } })).toBe(16)
  expect(sendWindow({ shardsPerSecond: 10, need: 0, senders: { batches: 2, need: 500 } })).toBe(75)
})

test('a batch that is pressed for time gets more, and leaves the others their share', () => {
  const windowOf = (need: number) =>
    sendWindow({ shardsPerSecond: 10, need, senders: { batches: 3, need: 100 } })
  expect([windowOf(90), windowOf(8), windowOf(2)]).toEqual([185, 62, 53])
})

test('more need is never answered by less, and all together stay within what there is', () => {
  const needs = fc.array(fc.double({ min: 0, max: 1e6, noNaN: true }), { minLength: 1, maxLength: 50 })
  fc.assert(
    fc.property(needs, fc.double({ min: 1, max: 100, noNaN: true }), (needs, shardsPerSecond) => {
      const senders = { batches: needs.length, need: needs.reduce((a, b) => a + b) }
      const windows = needs
        .toSorted((a, b) => a - b)
        .map((need) => sendWindow({ shardsPerSecond, need, senders }))
      expect(windows).toEqual(windows.toSorted((a, b) => a - b))
      const total = windows.reduce((a, b) => a + b)
      expect(total).toBeLessThanOrEqual(Math.max(shardsPerSecond * 30, 16) + 2 * needs.length)
    }),
  )
})

const minute = 60_000

test('looks for shards when nothing is heard, and now and then anyway', () => {
  const policy = new ResendPolicy(0)
  expect(policy.decide(5_000, 0).count).toBe(false)
  expect(policy.decide(10_000, 0).count).toBe(true)
  expect(policy.decide(20_000, 19_000).count).toBe(false)
  expect(policy.decide(70_000, 69_000).count).toBe(true)
})

test('sends again after ten minutes, then after twenty, and after ten when something was done', () => {
  const policy = new ResendPolicy(0)
  const resends: number[] = []
  for (let now = 0; now < 100 * minute; now += 5_000) {
    const doneAt = now < 40 * minute ? 0 : 40 * minute
    if (policy.decide(now, doneAt).resend) resends.push(now / minute)
  }
  expect(resends).toEqual([10, 30, 50, 70])
  expect(policy.decide(1000 * minute, 0)).toEqual({ count: true, resend: true })
})
