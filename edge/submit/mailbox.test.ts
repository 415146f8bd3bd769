import { afterEach, expect, test, vi } from 'vitest'
import { completed } from '../app.fixture.ts'
import { maxHoldMs } from '../contract/caption.ts'
import type { CaptionPart } from '../contract/reply.ts'
import { createMailbox, replyWithin } from './mailbox.ts'

const never = new AbortController().signal

afterEach(() => void vi.useRealTimers())

test('a caption that comes while its caller waits is handed over', async () => {
  const mailbox = createMailbox()
  const reply = mailbox.open('a')
  const waited = reply.wait(60_000, never)
  expect(mailbox.deliver('a', completed('a'))).toBe(true)
  expect(await waited).toEqual(completed('a'))
})

test('a caption that comes before the wait is handed over, even to a wait of 0 ms', async () => {
  const mailbox = createMailbox()
  const reply = mailbox.open('a')
  mailbox.deliver('a', completed('a'))
  expect(await reply.wait(0, never)).toEqual(completed('a'))
})

test('captions do not get mixed up', async () => {
  const mailbox = createMailbox()
  const [a, b] = [mailbox.open('a'), mailbox.open('b')]
  mailbox.deliver('b', completed('b'))
  mailbox.deliver('a', completed('a'))
  expect(await a.wait(60_000, never)).toEqual(completed('a'))
  expect(await b.wait(60_000, never)).toEqual(completed('b'))
})

test('the wait ends without a caption when its time is over', async () => {
  vi.useFakeTimers()
  const waited = createMailbox().open('a').wait(25_000, never)
  await vi.advanceTimersByTimeAsync(25_000)
  expect(await waited).toBeUndefined()
})

test('the wait ends when the caller goes away, or was gone already', async () => {
  const caller = new AbortController()
  const mailbox = createMailbox()
  const waited = mailbox.open('a').wait(60_000, caller.signal)
  caller.abort()
  expect(await waited).toBeUndefined()
  expect(await mailbox.open('b').wait(60_000, caller.signal)).toBeUndefined()
})

test('who has given up is handed nothing any more', async () => {
  const mailbox = createMailbox()
  const [late, gone] = [mailbox.open('late'), mailbox.open('gone')]
  await Promise.all([late.wait(0, never), gone.wait(60_000, AbortSignal.abort())])
  expect(mailbox.deliver('late', completed('late'))).toBe(false)
  expect(mailbox.deliver('gone', completed('gone'))).toBe(false)
})

test('release ends every wait', async () => {
  const mailbox = createMailbox()
  const waits = ['a', 'b'].map((id) => mailbox.open(id).wait(60_000, never))
  mailbox.release()
  expect(await Promise.all(waits)).toEqual([undefined, undefined])
})

test('nobody takes a caption at a closed or unknown address', () => {
  const mailbox = createMailbox()
  const reply = mailbox.open('a')
  reply.close()
  expect(mailbox.deliver('a', completed('a'))).toBe(false)
  expect(mailbox.deliver('local:other', completed('a'))).toBe(false)
})

const part = (id: string, texts = [{ index: 0, from: 0, text: 'a' }]): CaptionPart => ({
  ...{ id, object: 'caption.part', created: 1, texts },
})

test('parts are shown to who reads along, and to nobody else', () => {
  const mailbox = createMailbox()
  const shown: CaptionPart[] = []
  const reply = mailbox.open('a', (each) => shown.push(each))
  mailbox.open('b')
  expect(['a', 'b', 'c'].map((id) => mailbox.show(id, part(id)))).toEqual(['taken', 'taken', 'unwanted'])
  // An empty one only asks whether somebody waits.
  expect(mailbox.show('a', part('a', []))).toBe('taken')
  expect(shown).toEqual([part('a')])
  reply.close()
  expect(mailbox.show('a', part('a'))).toBe('unwanted')
})

test('who leaves is known to have left, until the request is repeated', async () => {
  const caller = new AbortController()
  const mailbox = createMailbox()
  const waited = mailbox.open('a', () => {}).wait(60_000, caller.signal)
  const leaving = mailbox.leaving('a')!
  expect(leaving.aborted).toBe(false)
  caller.abort()
  await waited
  expect(leaving.aborted).toBe(true)
  // Also to a processor that takes up the job only now.
  expect(mailbox.leaving('a')!.aborted).toBe(true)
  expect(mailbox.show('a', part('a'))).toBe('left')
  mailbox.open('a', () => {})
  expect(mailbox.leaving('a')!.aborted).toBe(false)
  expect(mailbox.show('a', part('a'))).toBe('taken')
})

test.each(['late', 'answered', 'released', 'unknown'])('who is %s has not left', async (kind) => {
  const mailbox = createMailbox()
  const reply = kind === 'unknown' ? undefined : mailbox.open('a')
  const waited = reply?.wait(kind === 'late' ? 0 : 60_000, never)
  const leaving = mailbox.leaving('a')
  if (kind === 'answered') mailbox.deliver('a', completed('a'))
  if (kind === 'released') mailbox.release()
  await waited
  reply?.close()
  expect(leaving?.aborted ?? false).toBe(false)
  expect(mailbox.leaving('a')).toBeUndefined()
  expect(mailbox.show('a', part('a'))).toBe('unwanted')
})

test('a wait goes on as long as parts come', async () => {
  vi.useFakeTimers()
  let parts = 0
  let isOver = false
  const never = new Promise<string>(() => {})
  void replyWithin(100, never, { parts: () => parts }).then(() => {
    isOver = true
  })
  parts = 1
  await vi.advanceTimersByTimeAsync(100)
  for (let count = 0; count < 3; count++) {
    expect(isOver).toBe(false)
    parts++
    await vi.advanceTimersByTimeAsync(maxHoldMs)
  }
  expect(isOver).toBe(false)
  await vi.advanceTimersByTimeAsync(maxHoldMs)
  expect(isOver).toBe(true)
})
