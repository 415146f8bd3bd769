import { expect, test } from 'vitest'
import { SenderPace, type SenderPaceOptions } from './sender-pace.ts'

function paced(options: Partial<SenderPaceOptions> = {}) {
  const clock = { now: 5000 }
  const pace = new SenderPace({ bytesPerSecond: 1000, longestMs: 10_000, now: () => clock.now, ...options })
  return { clock, pace }
}

test('the bytes of a sender come one after the other, and those of another beside them', () => {
  const { pace } = paced()
  expect([1, 2, 3].map(() => pace.delay('a', 2000))).toEqual([0, 2000, 4000])
  expect([1, 2].map(() => pace.delay('b', 500))).toEqual([0, 500])
})

test('a sender that pauses is not held up', () => {
  const { pace, clock } = paced()
  pace.delay('a', 2000)
  clock.now += 1500
  expect(pace.delay('a', 2000)).toBe(500)
  clock.now += 60_000
  expect(pace.delay('a', 2000)).toBe(0)
})

test('what would wait too long is told apart, and takes no time of what comes later', () => {
  const { pace, clock } = paced()
  pace.delay('a', 10_001)
  expect(pace.delay('a', 2000)).toBeUndefined()
  clock.now += 1
  expect(pace.delay('a', 2000)).toBe(10_000)
})

test('a sender may be ahead for a while, also after a pause', () => {
  const { pace, clock } = paced({ aheadMs: 3000 })
  const burst = () => [1, 2, 3].map(() => pace.delay('a', 2000))
  expect(burst()).toEqual([0, 0, 1000])
  clock.now += 60_000
  expect(burst()).toEqual([0, 0, 1000])
})
