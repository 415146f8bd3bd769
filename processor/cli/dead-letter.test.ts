import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { groups, topics } from '../../edge/contract/topics.ts'
import { openSqliteStream } from '../../infra/stream/sqlite.ts'
import { type ConsumedRecord, type Stream, StreamUnavailableError } from '../../infra/stream/stream.ts'
import { encodeDeadLetter } from '../delivery/dead-letters.ts'
import { consumed } from '../delivery/record.fixture.ts'
import { type DeadLetterEnvironment, runRetry, showDeadLetters } from './dead-letter.ts'
import { UsageError } from './errors.ts'

let folder: string
let stream: Stream
let printed: { stdout: string; stderr: string }
let environment: DeadLetterEnvironment

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-letters-'))
  stream = await openSqliteStream({ path: join(folder, 'stream.db') })
  await stream.ensureTopics(
    Object.fromEntries(Object.values(topics).map((topic) => [topic, { partitions: 1 }])),
  )
  printed = { stdout: '', stderr: '' }
  environment = {
    openStream: async () => ({ ...boundStream(), close: async () => {} }),
    stdout: { write: (text: string) => (printed.stdout += text) },
    stderr: { write: (text: string) => (printed.stderr += text) },
  }
})
afterEach(async () => {
  await stream.close()
  await rm(folder, { recursive: true })
})

/** The stream as the commands see it; they close it, the tests look at it afterwards. */
const boundStream = (): Stream => ({
  ensureTopics: (layout) => stream.ensureTopics(layout),
  send: (topic, records) => stream.send(topic, records),
  consume: (options) => stream.consume(options),
  lag: (topic, group) => stream.lag(topic, group),
  groupState: (topic, group) => stream.groupState(topic, group),
  peek: (topic, group, limit) => stream.peek(topic, group, limit),
  close: () => stream.close(),
})

/** Puts a record among the dead letters. */
async function bury(key: string, { topic = topics.interactive as string, cause = 'It broke.' } = {}) {
  const record = consumed(
    { key, value: new Uint8Array(2000), headers: { tenant: 'acme' } },
    { topic, offset: 5n },
  )
  await stream.send(topics.deadLetter, [encodeDeadLetter(record, new Error(cause), 3)])
}

/** Keys of the records that were sent again to a topic; each is marked. */
async function resent(topic: string): Promise<string[]> {
  const records = await stream.peek(topic, 'test', 100)
  for (const { headers } of records) expect(headers).toEqual({ tenant: 'acme', retry: '1' })
  return records.map(({ key }) => key)
}

const left = async () =>
  (await stream.peek(topics.deadLetter, groups.deadLetter, 100)).map(({ key }: ConsumedRecord) => key)

test('the list is a table, the oldest letter first', async () => {
  await bury('cap_1')
  await bury('batch_2/7', { topic: topics.batch, cause: 'It broke\nfor good.' })
  await showDeadLetters({ limit: 100 }, environment)
  const rows = printed.stdout.trimEnd().split('\n')
  expect(rows.map((row) => row.split(/ {2,}/))).toEqual([
    ['ID', 'TENANT', 'ORIGIN', 'WHEN', 'SIZE', 'CAUSE'],
    ['cap_1', 'acme', 'turbine.interactive/0@5', expect.stringMatching(/^\d{4}-.*T/), '2.0 kB', 'It broke.'],
    ['batch_2/7', 'acme', 'turbine.batch/0@5', expect.any(String), '2.0 kB', 'It broke for good.'],
  ])
  expect(await left()).toHaveLength(2)
})

test('the list is one JSON object a line on request, and says when it may not be whole', async () => {
  for (const key of ['cap_1', 'cap_2', 'cap_3']) await bury(key)
  await showDeadLetters({ limit: 2, json: true }, environment)
  const letters = printed.stdout.trimEnd().split('\n')
  expect(letters.map((line) => JSON.parse(line))).toMatchObject([
    { id: 'cap_1', tenant: 'acme', cause: 'It broke.', attempts: 3, bytes: 2000 },
    { id: 'cap_2', origin: { topic: topics.interactive, partition: 0, offset: '5' } },
  ])
  expect(printed.stderr).toContain('--limit')
})

test('an empty list says so on standard error alone', async () => {
  await showDeadLetters({ limit: 100 }, environment)
  expect(printed).toEqual({ stdout: '', stderr: 'There are no dead letters.\n' })
})

test('retry sends every record back to where it came from and empties the list', async () => {
  for (let i = 0; i < 20; i++) await bury(`cap_${i}`)
  await bury('batch_2/7', { topic: topics.batch })
  await runRetry({}, environment)
  expect((await resent(topics.interactive)).sort()).toEqual(
    Array.from({ length: 20 }, (_, i) => `cap_${i}`).sort(),
  )
  expect(await resent(topics.batch)).toEqual(['batch_2/7'])
  expect(await left()).toEqual([])
  expect(printed.stdout.trimEnd().split('\n')).toHaveLength(21)
  expect(printed.stderr).toBe('21 records resent.\n')
})

test('what dies again meanwhile stays on the list', async () => {
  await bury('cap_1')
  const now = Date.now()
  const consumer = await stream.consume({
    topic: topics.interactive,
    group: 'processor',
    maxInFlight: 1,
    handle: async ({ key }) => {
      await vi.waitUntil(() => Date.now() > now)
      await bury(key, { cause: 'It broke again.' })
    },
  })
  await runRetry({}, { ...environment, now: () => now })
  await consumer.close()
  expect(await left()).toEqual(['cap_1'])
  expect(printed.stderr).toBe('1 record resent.\n')
})

test('retry with an id sends that one, and leaves it on the list', async () => {
  await bury('cap_1')
  await bury('cap_2')
  await runRetry({ id: 'cap_2' }, environment)
  expect(await resent(topics.interactive)).toEqual(['cap_2'])
  expect(await left()).toEqual(['cap_1', 'cap_2'])
})

test('an id that is not listed is wrong usage', async () => {
  await expect(runRetry({ id: 'cap_9' }, environment)).rejects.toThrow(UsageError)
})

test('a letter without an origin is told of, and does not hold up the others', async () => {
  await stream.send(topics.deadLetter, [{ key: 'stray', value: new Uint8Array(0), headers: {} }])
  await bury('cap_1')
  await runRetry({}, environment)
  expect(printed.stderr).toContain('"stray" has no origin; dropped.')
  expect([await resent(topics.interactive), await left()]).toEqual([['cap_1'], []])
  await stream.send(topics.deadLetter, [{ key: 'stray', value: new Uint8Array(0), headers: {} }])
  await expect(runRetry({ id: 'stray' }, environment)).rejects.toThrow(UsageError)
})

test('a stream that cannot take the records ends the retry, and the letters stay', async () => {
  await bury('cap_1')
  const away = new StreamUnavailableError('away')
  const openStream = async (): Promise<Stream> => ({
    ...(await environment.openStream()),
    send: () => Promise.reject(away),
  })
  await expect(runRetry({}, { ...environment, openStream })).rejects.toBe(away)
  expect(await left()).toEqual(['cap_1'])
})
