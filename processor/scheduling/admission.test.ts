import { expect, test } from 'vitest'
import { admission } from './admission.ts'
import { device, image, queueOf } from './scenario.fixture.ts'

const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
const waiting = (count: number) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, { deadline: 500 + i }))

test('an empty queue takes an image even when its deadline cannot be met', () => {
  expect(admission({ queue: queueOf([]), costs }, { deadline: 1 }, 0)).toEqual({ admitted: true })
})

test('a full lane rejects until it has room', () => {
  const queue = queueOf(waiting(100), { limits: { interactive: 100 } })
  const rejected = { admitted: false, reason: 'full', retryAfterSeconds: 1 }
  expect(admission({ queue, costs, interactiveTargetMs: Infinity }, {}, 0)).toEqual(rejected)
})

test('rejects what would be late at the highest level, and only that', () => {
  // 40 ms each at the highest level, and a margin of a tenth.
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
  const upstream = [{ deadline: 550, images: 3, maxLevel: 5 }]
  expect(admission({ queue, costs, upstream }, { deadline: 600 }, 0).admitted).toBe(false)
  expect(admission({ queue, costs, upstream }, { deadline: 540 }, 0).admitted).toBe(true)
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

test('images that must not be pruned make the queue longer', () => {
  const queue = queueOf(waiting(25).map((each) => ({ ...each, maxPrune: 0 })))
  expect(admission({ queue, costs }, { deadline: 600 }, 0).admitted).toBe(false)
})

test('says when such an image would be accepted: when the queue is short enough', () => {
  const repeatIn = (count: number, deadline: number) => {
    const decision = admission({ queue: queueOf(waiting(count)), costs }, { deadline }, 0)
    return decision.admitted ? 0 : decision.retryAfterSeconds
  }
  // 101 images take 4040 ms, and 545 ms of them may be left.
  expect(repeatIn(100, 600)).toBe(4)
  // Only ten of them are due before it now, but all of them will be when it comes again.
  expect(repeatIn(20, 509)).toBe(0)
  expect(repeatIn(300, 520)).toBe(12)
})

test('a device that is slow on a single image still serves a few callers', () => {
  const slow = device({ fixedMs: 0, rowMs: 1000, buckets: [1] })
  const queue = (count: number) => queueOf(waiting(count))
  expect(admission({ queue: queue(5), costs: slow }, { deadline: 600 }, 0).admitted).toBe(true)
  expect(admission({ queue: queue(20), costs: slow }, { deadline: 600 }, 0).admitted).toBe(false)
})

test('rejects what would only be in time in a large batch for which the head has no time', () => {
  // At the highest level a run takes 64 ms with one image, 76 with four, 92 with eight.
  const batched = device({ fixedMs: 60, rowMs: 10, buckets: [1, 2, 4, 8] })
  const decide = (headDeadline: number) => {
    const queue = queueOf([image('head', { deadline: headDeadline }), ...waiting(4)])
    return admission({ queue, costs: batched, runningMs: 300 }, { deadline: 510 }, 0).admitted
  }
  expect(decide(500)).toBe(true)
  expect(decide(404)).toBe(false)
  expect(decide(200)).toBe(true)
})

test('an image that allows less pruning needs more time', () => {
  const options = { queue: queueOf(waiting(12)), costs }
  expect(admission(options, { deadline: 600, maxPrune: 1 }, 0).admitted).toBe(true)
  expect(admission(options, { deadline: 600, maxPrune: 0 }, 0).admitted).toBe(false)
})

test('an image that is never late is rejected by a full lane only', () => {
  expect(admission({ queue: queueOf(waiting(1000)), costs, runningMs: 1e6 }, {}, 0).admitted).toBe(true)
})
