import { describe, expect, test } from 'vitest'
import { TurbineError } from '../../edge/contract/errors.ts'
import { jobTopic, topics } from '../../edge/contract/topics.ts'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import { describeDeadLetter, isRetry, reviveDeadLetter, withDeadLetters } from './dead-letters.ts'
import { consumed, FakeSender } from './record.fixture.ts'

const signal = new AbortController().signal
const place = { topic: topics.batch, partition: 3, offset: 9n, timestamp: 77 }
const record = consumed({ key: 'b/1', value: Uint8Array.of(1, 2), headers: { tenant: 'acme' } }, place)

/** A handler that fails with these errors in turn, and fulfils where there is none. */
function failing(...errors: unknown[]) {
  const sender = new FakeSender()
  const told: unknown[] = []
  const buried: unknown[] = []
  const handle = withDeadLetters(
    {
      async handle() {
        const error = errors.shift()
        if (error !== undefined) throw error
      },
      onDead: async (_, cause) => void told.push(cause),
    },
    { stream: sender, onDeadLetter: (cause) => buried.push(cause) },
  )
  return { handle, sender, told, buried }
}

describe('a record whose handling fails', () => {
  test('comes again twice, then goes to the dead letters and counts as handled', async () => {
    const defect = new TypeError('a defect')
    const { handle, sender, told, buried } = failing(defect, defect, defect)
    await expect(handle(record, signal)).rejects.toBe(defect)
    await expect(handle(record, signal)).rejects.toBe(defect)
    expect(sender.sent).toEqual([])
    await handle(record, signal)
    expect(sender.sent.map(({ topic }) => topic)).toEqual([topics.deadLetter])
    expect([told, buried]).toEqual([[defect], [defect]])
  })

  test('starts anew when it succeeds in between', async () => {
    const defect = new TypeError('a defect')
    const { handle, sender } = failing(defect, undefined, defect, defect)
    await expect(handle(record, signal)).rejects.toBe(defect)
    await handle(record, signal)
    await expect(handle(record, signal)).rejects.toBe(defect)
    await expect(handle(record, signal)).rejects.toBe(defect)
    expect(sender.sent).toEqual([])
  })

  test('counts for itself alone', async () => {
    const defect = new TypeError('a defect')
    const { handle, sender } = failing(defect, defect, defect)
    for (const offset of [1n, 2n, 3n])
      await expect(handle({ ...record, offset }, signal)).rejects.toBe(defect)
    expect(sender.sent).toEqual([])
  })

  test.each([
    new StoreUnavailableError('away'),
    new StreamUnavailableError('away'),
    new TurbineError('later', { status: 503, code: 'shutting_down' }),
  ])('comes again for ever through an outage: %s', async (outage) => {
    const { handle, sender } = failing(...Array(20).fill(outage))
    for (let i = 0; i < 20; i++) await expect(handle(record, signal)).rejects.toBe(outage)
    await handle(record, signal)
    expect(sender.sent).toEqual([])
  })

  test.each(['record_unreadable', 'inference_failed'])('goes at once on %s', async (code) => {
    const { handle, sender } = failing(new TurbineError('no', { status: 503, code }))
    await handle(record, signal)
    expect(sender.sent).toHaveLength(1)
  })

  test('is left alone when the consumer closes', async () => {
    const { handle, sender } = failing(...Array(5).fill(new Error('aborted')))
    for (let i = 0; i < 5; i++) await expect(handle(record, AbortSignal.abort())).rejects.toThrow('aborted')
    expect(sender.sent).toEqual([])
  })

  test('stays while the stream cannot take the letter', async () => {
    const hopeless = new TurbineError('no', { status: 500, code: 'record_unreadable' })
    const { handle, sender, told } = failing(hopeless, hopeless)
    sender.away = new StreamUnavailableError('away')
    await expect(handle(record, signal)).rejects.toBe(sender.away)
    expect(told).toEqual([])
    sender.away = undefined
    await handle(record, signal)
    expect([sender.sent.length, told]).toEqual([1, [hopeless]])
  })
})

test('a record that lies with the dead letters is not handled again until its end is told', async () => {
  const sender = new FakeSender()
  let handled = 0
  let outages = 2
  const handle = withDeadLetters(
    {
      async handle() {
        handled++
        throw new TurbineError('no', { status: 500, code: 'record_unreadable' })
      },
      async onDead() {
        if (outages-- > 0) throw new StoreUnavailableError('away')
      },
    },
    { stream: sender },
  )
  await expect(handle(record, signal)).rejects.toThrow('away')
  await expect(handle(record, signal)).rejects.toThrow('away')
  await handle(record, signal)
  expect([handled, sender.sent.length]).toEqual([1, 1])
})

test('a letter says what it is, and becomes the record that it was', async () => {
  const { handle, sender } = failing(
    new TurbineError(`no ${'x'.repeat(5000)}`, { status: 500, code: 'record_unreadable' }),
  )
  await handle(record, signal)
  const letter = consumed(sender.sent[0]!.record, { topic: topics.deadLetter, timestamp: 123 })
  expect(describeDeadLetter(letter)).toEqual({
    id: 'b/1',
    tenant: 'acme',
    origin: { topic: topics.batch, partition: 3, offset: '9' },
    cause: expect.stringMatching(/^no x{997}$/),
    attempts: 1,
    at: 123,
    bytes: 2,
  })
  const revived = reviveDeadLetter(letter)!
  expect(revived).toEqual({
    topic: topics.batch,
    record: { key: 'b/1', value: record.value, headers: { tenant: 'acme', retry: '1' } },
  })
  expect([isRetry(record), isRetry(revived.record)]).toEqual([false, true])
})

test("a letter of a model's own topic goes back there", () => {
  const { topic } = jobTopic('interactive', 'owner/name')
  expect(reviveDeadLetter(consumed({ headers: { 'origin-topic': topic } }))?.topic).toBe(topic)
})

test.each<Record<string, string>>([
  {},
  { 'origin-topic': 'elsewhere' },
  { 'origin-topic': topics.deadLetter },
])('a letter goes back to topics of ours alone: %j', (headers) =>
  expect(reviveDeadLetter(consumed({ headers }))).toBeUndefined(),
)
