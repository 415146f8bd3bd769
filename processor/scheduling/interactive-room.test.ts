import { expect, test } from 'vitest'
import { type InteractiveRoomOptions, leavesRoom } from './interactive-room.ts'
import { device } from './scenario.fixture.ts'

/** A run takes 60 ms with one image, 80 with two, 120 with four. */
const costs = device({ fixedMs: 40, rowMs: 20, buckets: [1, 2, 4] })
const longest = (rest: Partial<InteractiveRoomOptions> = {}) => {
  const options = { costs, waiting: 0, beyond: 0, arrivalRate: 0, targetMs: 500, slowdown: 1, ...rest }
  return Array.from({ length: 50 }, (_, i) => 10 * i).findLast((ms) => leavesRoom(ms, options))
}

test('the image that comes right after the start has time for a run of its own', () => {
  expect(longest()).toBe(440)
  expect(longest({ slowdown: 1.25 })).toBe(340)
})

test('the more wait, come or are on their way, the less room there is', () => {
  expect(longest({ waiting: 1 })).toBe(420)
  expect(longest({ beyond: 12 })).toBeLessThan(400)
  expect(longest({ arrivalRate: 1 })).toBe(440)
  expect(longest({ arrivalRate: 50 })).toBeLessThan(400)
})

test('no run leaves room when there is none', () => {
  expect(longest({ targetMs: 50 })).toBeUndefined()
  expect(longest({ waiting: 50 })).toBeUndefined()
})
