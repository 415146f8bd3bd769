import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { pollUntil } from './poll.ts'

const never = new AbortController().signal

beforeEach(() => void vi.useFakeTimers({ now: 0 }))
afterEach(() => void vi.useRealTimers())

test('pauses grow from 50 to 500 ms, and the last attempt is at the end', async () => {
  const attempts: number[] = []
  const attempt = async () => void attempts.push(Date.now())
  const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: never })
  await vi.runAllTimersAsync()
  expect(await found).toBeUndefined()
  const pauses = attempts.slice(1).map((time, index) => time - attempts[index]!)
  expect(attempts[0]).toBe(0)
  expect(pauses[0]).toBe(50)
  expect(Math.max(...pauses)).toBe(500)
  expect(attempts.at(-1)).toBe(3000)
})

test('the first value ends it', async () => {
  let attempts = 0
  const attempt = async () => (++attempts === 3 ? 'value' : undefined)
  const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: never })
  await vi.runAllTimersAsync()
  expect(await found).toBe('value')
  expect(attempts).toBe(3)
})

test('there is one attempt even when the time is up already', async () => {
  expect(await pollUntil(async () => 'value', { until: -1, now: Date.now, signal: never })).toBe('value')
})

test('it ends at once when nobody wants the value any more', async () => {
  const caller = new AbortController()
  const attempt = vi.fn(async () => undefined)
  const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: caller.signal })
  await vi.advanceTimersByTimeAsync(60)
  caller.abort()
  expect(await found).toBeUndefined()
  expect(attempt).toHaveBeenCalledTimes(2)
  expect(vi.getTimerCount()).toBe(0)
})
