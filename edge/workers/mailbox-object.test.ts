import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { completed } from '../app.fixture.ts'
import { MailboxObject } from './mailbox-object.ts'

vi.mock('cloudflare:workers', () => ({ DurableObject: class {} }))

const open = () => new MailboxObject({}, {})

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('a reply reaches the request that waits for it, and no other', async () => {
  const mailbox = open()
  const [a, b] = [mailbox.wait('a', 25_000), mailbox.wait('b', 25_000)]
  expect(await mailbox.deliver('b', completed('b'))).toBe(true)
  expect(await b).toEqual(completed('b'))
  await vi.advanceTimersByTimeAsync(25_000)
  expect(await a).toBeUndefined()
})

test('a reply that arrives first is kept for a moment', async () => {
  const mailbox = open()
  expect(await mailbox.deliver('a', completed('a'))).toBe(false)
  expect(await mailbox.deliver('b', completed('b'))).toBe(false)
  await vi.advanceTimersByTimeAsync(4_999)
  expect(await mailbox.wait('a', 0)).toEqual(completed('a'))
  await vi.advanceTimersByTimeAsync(1)
  const late = mailbox.wait('b', 1_000)
  await vi.advanceTimersByTimeAsync(1_000)
  expect(await late).toBeUndefined()
})

test('when the time of a wait is over nobody is said to wait', async () => {
  const mailbox = open()
  const waited = mailbox.wait('a', 25_000)
  await vi.advanceTimersByTimeAsync(25_000)
  expect(await waited).toBeUndefined()
  expect(await mailbox.deliver('a', completed('a'))).toBe(false)
})

test('closing ends the wait, and a repeat of the request can wait again', async () => {
  const mailbox = open()
  const waited = mailbox.wait('a', 25_000)
  await mailbox.close('a')
  expect(await waited).toBeUndefined()
  const again = mailbox.wait('a', 25_000)
  expect(await mailbox.deliver('a', completed('a'))).toBe(true)
  expect(await again).toEqual(completed('a'))
})
