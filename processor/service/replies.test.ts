import { afterEach, describe, expect, test } from 'vitest'
import { completed, fakeEdge } from '../../edge/app.fixture.ts'
import type { CaptionJob } from '../../edge/contract/job.ts'
import { type CaptionPart, replyPath } from '../../edge/contract/reply.ts'
import { operationsApp } from '../../edge/operations.ts'
import { serveNode } from '../../edge/server.ts'
import { GrowingTexts } from '../../edge/submit/growing-texts.ts'
import { createMailbox, type LocalMailbox } from '../../edge/submit/mailbox.ts'
import type { Config } from '../../infra/config.ts'
import { Shutdown } from '../../infra/shutdown.ts'
import { openReplies } from './replies.ts'

const secret = 'a secret of the fleet'
const never = new AbortController().signal

let shutdown = new Shutdown()
afterEach(async () => {
  await shutdown.run(0)
  shutdown = new Shutdown()
})

/** Replies of a process, to callers of the mailbox. */
async function inOneProcess() {
  const replies = openReplies({} as Config, { log: { warn: () => {} }, shutdown })
  return { replies, mailbox: replies.mailbox }
}

/** Replies of a processor, and the mailbox of an edge elsewhere. */
async function inFleet(edgeSecret = secret) {
  const warned: string[] = []
  let origin = ''
  const mailbox = createMailbox((id) => `${origin}${replyPath(id)}`)
  const { deps } = fakeEdge({ mailbox, replySecret: edgeSecret, now: Date.now })
  const server = await serveNode(operationsApp(deps), { host: '127.0.0.1', port: 0 })
  shutdown.add(() => server.close())
  origin = server.address
  const config = { kafkaBrokers: ['kafka'], replySecret: secret } as unknown as Config
  const log = { warn: (_: unknown, message?: string) => void warned.push(message ?? '') }
  return { replies: openReplies(config, { log, shutdown }), mailbox, warned }
}

const jobOf = (id: string, replyTo: string): CaptionJob => ({
  ...{ id, tenant: 'default', model: 'm', image: new Uint8Array(0), replyTo, streamed: true },
  ...{ acceptedAt: 1_790_000_000_000, deadline: 1_790_000_001_000, maxPrune: 1 },
})

/** A caller who reads along. */
function callerOf(mailbox: LocalMailbox, id = 'cap_1') {
  const parts: CaptionPart[] = []
  const texts = new GrowingTexts()
  const reply = mailbox.open(id, (part) => {
    parts.push(part)
    for (const each of part.texts) texts.add(each)
  })
  return { reply, parts, texts, job: jobOf(id, reply.replyTo) }
}

describe.each([
  ['in one process', inOneProcess],
  ['in a fleet', inFleet],
])('%s', (_, open) => {
  test('texts reach the caller as they grow, and then the caption does', async () => {
    const { replies, mailbox } = await open()
    const { reply, parts, texts, job } = callerOf(mailbox)
    const line = replies.lineTo(job)
    for (const text of ['a', 'a red', 'a red sq']) line.show(0, text)
    line.show(1, 'the square')
    await expect.poll(() => [texts.of(0), texts.of(1)]).toEqual(['a red sq', 'the square'])
    expect(parts[0]).toEqual({
      ...{ id: 'cap_1', object: 'caption.part', created: 1_790_000_000 },
      texts: [{ index: 0, from: 0, text: 'a' }],
    })
    line.close()
    const waited = reply.wait(60_000, never)
    expect(await replies.deliver(job.replyTo!, completed('cap_1'))).toBe(true)
    expect(await waited).toEqual(completed('cap_1'))
    expect(line.left.aborted).toBe(false)
  })

  test('a caller who leaves is known to have left', async () => {
    const { replies, mailbox } = await open()
    const { reply, job } = callerOf(mailbox)
    const line = replies.lineTo(job)
    await reply.wait(60_000, AbortSignal.abort())
    line.show(0, 'a')
    await expect.poll(() => line.left.aborted).toBe(true)
  })

  test('one who only waits no longer has not left', async () => {
    const { replies, mailbox } = await open()
    const { reply, parts, job } = callerOf(mailbox)
    const other = callerOf(mailbox, 'cap_2')
    const line = replies.lineTo(job)
    await reply.wait(0, never)
    line.show(0, 'a')
    const next = replies.lineTo(other.job)
    next.show(0, 'b')
    await expect.poll(() => other.parts.length).toBe(1)
    expect([line.left.aborted, parts]).toEqual([false, []])
  })
})

test('an edge that cannot be told is no reason to stop', async () => {
  const { replies, mailbox, warned } = await inFleet('the secret of another fleet')
  const { parts, job } = callerOf(mailbox)
  const line = replies.lineTo(job)
  line.show(0, 'a')
  await expect.poll(() => warned).toEqual(['part of a caption not reported to its edge'])
  line.close()
  expect([line.left.aborted, parts]).toEqual([false, []])
})

test('a caller of another process who leaves without a text is missed', async () => {
  const { replies, mailbox } = await inFleet()
  const { reply, job } = callerOf(mailbox)
  const line = replies.lineTo({ ...job, streamed: undefined })
  const kept = replies.lineTo({ ...job, repeatable: true })
  await reply.wait(60_000, AbortSignal.abort())
  await expect.poll(() => line.left.aborted, { timeout: 10_000 }).toBe(true)
  expect(kept.left.aborted).toBe(false)
  kept.close()
})
