import { expect, test, vi } from 'vitest'
import { completed } from '../app.fixture.ts'
import { maxHoldMs } from '../contract/caption.ts'
import type { CaptionPart } from '../contract/reply.ts'
import { createObjectMailbox, type MailboxCalls } from './mailbox.ts'
import { MailboxObject } from './mailbox-object.ts'
import { fakeBackground, fakeObjects } from './objects.fixture.ts'

vi.mock('cloudflare:workers', () => ({ DurableObject: class {} }))

const never = new AbortController().signal

/** A mailbox over objects in this process. */
function mailboxOver(make: (name: string) => MailboxCalls = () => new MailboxObject({}, {})) {
  const { objects, made } = fakeObjects(make)
  const { background, works } = fakeBackground()
  const warnings: unknown[] = []
  const mailbox = createObjectMailbox({
    objects,
    mailboxes: 4,
    addressOf: (id) => `https://edge.example.com/${id}`,
    background,
    log: { warn: (fields) => void warnings.push(fields) },
  })
  return { mailbox, made, works, warnings }
}

test('a caption that is delivered anywhere reaches the one who waits', async () => {
  const { mailbox, works } = mailboxOver()
  const [a, b] = [mailbox.open('a'), mailbox.open('b')]
  expect(a.replyTo).toBe('https://edge.example.com/a')
  expect(await mailbox.deliver('b', completed('b'))).toBe(true)
  expect(await b.wait(60_000, never)).toEqual(completed('b'))
  expect(await a.wait(0, never)).toBeUndefined()
  b.close()
  expect(works).toHaveLength(0)
})

test('requests spread over all of the pool, and need no more objects than that', () => {
  const { mailbox, made } = mailboxOver()
  for (let request = 0; request < 100; request++) mailbox.open(`cap_${request}`)
  expect([...made.keys()].sort()).toEqual(['mailbox-0', 'mailbox-1', 'mailbox-2', 'mailbox-3'])
})

test('the object waits from the start, and longer than any caller', () => {
  const waits: number[] = []
  const { mailbox } = mailboxOver(() => ({
    wait: (_id, ms) => {
      waits.push(ms)
      return new Promise(() => {})
    },
    deliver: async () => false,
    show: async () => 'unwanted' as const,
    close: async () => {},
  }))
  mailbox.open('a')
  expect(waits).toHaveLength(1)
  expect(waits[0]).toBeGreaterThan(maxHoldMs)
})

test('an object is let go when its caller is', async () => {
  const { mailbox, works } = mailboxOver()
  const reply = mailbox.open('a')
  expect(await reply.wait(60_000, AbortSignal.abort())).toBeUndefined()
  reply.close()
  await Promise.all(works)
  expect(await mailbox.deliver('a', completed('a'))).toBe(false)
})

test('a lost object costs the wait, not the request', async () => {
  const { mailbox, warnings } = mailboxOver(() => ({
    wait: async () => {
      throw new Error('Durable Object reset because its code was updated.')
    },
    deliver: async () => false,
    show: async () => 'unwanted' as const,
    close: async () => {},
  }))
  const reply = mailbox.open('a')
  expect(await reply.wait(60_000, never)).toBeUndefined()
  expect(reply.lost).toBe(true)
  expect(warnings).toHaveLength(1)
})

test('who gives up is handed nothing any more, and what came meanwhile counts', {
  timeout: 5_000,
}, async () => {
  const { mailbox } = mailboxOver()
  const [late, met] = [mailbox.open('late'), mailbox.open('met')]
  expect(await late.wait(0, never)).toBeUndefined()
  expect(await mailbox.deliver('late', completed('late'))).toBe(false)
  const waited = met.wait(0, AbortSignal.abort())
  expect(await mailbox.deliver('met', completed('met'))).toBe(true)
  expect(await waited).toEqual(completed('met'))
})

const part = (id: string, texts = [{ index: 0, from: 0, text: 'a' }]): CaptionPart => ({
  ...{ id, object: 'caption.part', created: 1, texts },
})

test('parts that are shown anywhere reach the one who reads along', async () => {
  const { mailbox } = mailboxOver()
  const shown: CaptionPart[] = []
  const [a] = [mailbox.open('a', (each) => shown.push(each)), mailbox.open('b')]
  expect(await mailbox.show('a', part('a'))).toBe('taken')
  expect(await mailbox.show('b', part('b'))).toBe('taken')
  expect(await mailbox.show('a', part('a', []))).toBe('taken')
  expect(await mailbox.show('c', part('c'))).toBe('unwanted')
  expect(shown).toEqual([part('a')])
  await mailbox.deliver('a', completed('a'))
  expect(await a.wait(60_000, never)).toEqual(completed('a'))
})

test('who has left is told to the processor, and who has given up is not', async () => {
  const { mailbox, works } = mailboxOver()
  const [left, late] = [mailbox.open('left', () => {}), mailbox.open('late', () => {})]
  await Promise.all([left.wait(60_000, AbortSignal.abort()), late.wait(0, never)])
  await Promise.all(works)
  expect(await mailbox.show('left', part('left'))).toBe('left')
  expect(await mailbox.show('late', part('late'))).toBe('unwanted')
  mailbox.open('left', () => {})
  expect(await mailbox.show('left', part('left'))).toBe('taken')
})
