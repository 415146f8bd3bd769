import { expect, test } from 'vitest'
import { UnreadBodies } from './unread-bodies.ts'

function paced() {
  const clock = { now: 5000 }
  const options = { bytesPerSecond: 1000, longestMs: 10_000, now: () => clock.now }
  return { clock, unread: new UnreadBodies(options) }
}

test('the bodies of a sender come one after the other, and those of another beside them', () => {
  const { unread } = paced()
  expect([1, 2, 3].map(() => unread.delay('a', 2000))).toEqual([0, 2000, 4000])
  expect([1, 2].map(() => unread.delay('b', 500))).toEqual([0, 500])
})

test('a sender that pauses is not held up', () => {
  const { unread, clock } = paced()
  unread.delay('a', 2000)
  clock.now += 1500
  expect(unread.delay('a', 2000)).toBe(500)
  clock.now += 60_000
  expect(unread.delay('a', 2000)).toBe(0)
})

test('what would wait too long is told apart, and takes no time of what comes later', () => {
  const { unread, clock } = paced()
  unread.delay('a', 10_001)
  expect(unread.delay('a', 2000)).toBeUndefined()
  clock.now += 1
  expect(unread.delay('a', 2000)).toBe(10_000)
})
