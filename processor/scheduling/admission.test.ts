import { expect, test } from 'vitest'
import { admission } from './admission.ts'
import { device, image, queueOf } from './scenario.ts'

const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
const waiting = (count: number) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, { deadline: 500 + i }))

test('an empty queue takes an image even when its deadline cannot be met', () => {
  expect(admission({ queue: queueOf([]), costs }, { deadline: 1 }, 0)).toEqual({ admitted: true })
})

test('a full lane refuses, for as long as it takes to have room', () => {
  const queue = queueOf(waiting(100), { limits: { interactive: 100 } })
  const refused = { admitted: false, reason: 'full', retryAfterSeconds: 1 }
  expect(admission({ queue, costs, interactiveTargetMs: Infinity }, {}, 0)).toEqual(refused)
})

test('refuses what would be late at the hardest level, and only that', () => {
  // 40 ms each at the hardest level, and a margin of a tenth.
  expect(admission({ queue: queueOf(waiting(11)), costs }, { deadline: 600 }, 0).admitted).toBe(true)
  expect(admission({ queue: queueOf(waiting(31)), costs }, { deadline: 600 }, 0)).toEqual({
    admitted: false,
    reason: 'late',
    retryAfterSeconds: 1,
  })
})

test('a run that keeps the device busy and images that are being decoded are in the way too', () => {
  const queue = queueOf(waiting(11))
  expect(admission({ queue, costs, runningMs: 100 }, { deadline: 600 }, 0).admitted).toBe(false)
  const beyond = [{ deadline: 550, images: 3, hardest: 5 }]
  expect(admission({ queue, costs, beyond }, { deadline: 600 }, 0).admitted).toBe(false)
  expect(admission({ queue, costs, beyond }, { deadline: 540 }, 0).admitted).toBe(true)
})

test('a deadline shorter than the interactive target is no reason to refuse', () => {
  const queue = queueOf(waiting(10).map((each) => ({ ...each, deadline: 0 })))
  expect(admission({ queue, costs }, { deadline: 1 }, 0)).toEqual({ admitted: true })
})

test('an image that is due before the others does not wait for them', () => {
  const queue = queueOf(waiting(100))
  expect(admission({ queue, costs }, { deadline: 499 }, 0)).toEqual({ admitted: true })
  expect(admission({ queue, costs }, { deadline: 10_000 }, 0)).toEqual({ admitted: true })
})

test('images that must not be pruned make the line longer', () => {
  const queue = queueOf(waiting(25).map((each) => ({ ...each, maxPrune: 0 })))
  expect(admission({ queue, costs }, { deadline: 600 }, 0).admitted).toBe(false)
})
