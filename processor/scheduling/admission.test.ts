import { expect, test } from 'vitest'
import { admission } from './admission.ts'
import { device, image, queueOf } from './scenario.ts'

const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
const waiting = (count: number) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, { deadline: 500 + i }))

test('an empty queue takes an image even when its deadline cannot be met', () => {
  expect(admission({ queue: queueOf([]), costs }, { deadline: 1 }, 0)).toEqual({ admitted: true })
})

test('a full lane refuses until the line has been served at the hardest level', () => {
  const queue = queueOf(waiting(100), { limits: { interactive: 100 } })
  const refused = { admitted: false, reason: 'full', retryAfterSeconds: 4 }
  expect(admission({ queue, costs, interactiveTargetMs: Infinity }, {}, 0)).toEqual(refused)
  expect(admission({ queue, costs, devices: 4 }, {}, 0)).toMatchObject({ retryAfterSeconds: 1 })
})

test('refuses what would be far too late at the hardest level, and only that', () => {
  // 40 ms each at the hardest level: 25 images are the second that an image with half a second may wait.
  expect(admission({ queue: queueOf(waiting(25)), costs }, { deadline: 600 }, 0).admitted).toBe(true)
  expect(admission({ queue: queueOf(waiting(31)), costs }, { deadline: 600 }, 0)).toEqual({
    admitted: false,
    reason: 'late',
    retryAfterSeconds: 2,
  })
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
