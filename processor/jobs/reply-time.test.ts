import { expect, test } from 'vitest'
import { ReplyTime } from './reply-time.ts'

const after = (replies: number[]) => {
  const time = new ReplyTime()
  for (const ms of replies) time.observe(ms)
  return time.ms
}

test('nothing is known at first, and a lasting change is followed', () => {
  expect(after([])).toBe(0)
  expect(after(Array(100).fill(20))).toBeCloseTo(20, 0)
  expect(after([...Array(100).fill(20), ...Array(100).fill(5)])).toBeCloseTo(5, 0)
})

test('a store that hangs, or a clock that goes back, takes little from the time of images', () => {
  expect(after(Array(100).fill(60_000))).toBeLessThanOrEqual(100)
  expect(after([20, -50])).toBeGreaterThanOrEqual(0)
})
