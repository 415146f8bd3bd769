import { expect, test, vi } from 'vitest'
import { encodeShardJob } from '../../edge/contract/shard.ts'
import { jobTopic, topics } from '../../edge/contract/topics.ts'
import type { StreamRecord } from '../../infra/stream/stream.ts'
import { consumed } from '../delivery/record.fixture.ts'
import { routed } from './route.ts'

const { signal } = new AbortController()
const interactive = (model: string) =>
  consumed({ headers: { model, 'turbine-id': 'cap_1' } }, { topic: topics.interactive })
const batch = (model: string) =>
  consumed(
    encodeShardJob({
      ...{ tenant: 'acme', batch: 'batch_1', shard: 3, endpoint: '/v1/captions', model, maxPrune: 1 },
      ...{ expiresAt: 2, createdAt: 1, slices: [], firstLine: 1, lines: 1, duplicates: [] },
    }),
    { topic: topics.batch },
  )

/** A processor that takes the shared topics for the model `mine`, in a fleet where `own` has topics of its own. */
function sharing(lane: 'interactive' | 'batch') {
  const sent: { topic: string; record: StreamRecord }[] = []
  const handle = vi.fn(async () => {})
  const onDead = vi.fn(async () => {})
  const handler = routed({ handle, onDead }, 'mine', {
    lane,
    stream: { send: async (topic, [record]) => void sent.push({ topic, record: record! }) },
    ownTopics: async (model) => model === 'own',
  })
  return { handler, handle, onDead, sent }
}

test.each([
  ['interactive', interactive],
  ['batch', batch],
] as const)('a record of the %s lane goes where its model is', async (lane, recordOf) => {
  const { handler, handle, sent } = sharing(lane)
  const record = recordOf('own')
  await handler.handle(record, signal)
  expect(handle).not.toHaveBeenCalled()
  expect(sent).toMatchObject([{ topic: jobTopic(lane, 'own').topic, record: { key: record.key } }])
  expect(sent[0]!.record.value).toEqual(record.value)
  // Also those of a model that is served no longer, which the handler refuses.
  for (const model of ['mine', 'gone']) await handler.handle(recordOf(model), signal)
  expect(handle).toHaveBeenCalledTimes(2)
  expect(sent).toHaveLength(1)
})

test('a request that is moved twice is captioned once', async () => {
  const { handler, sent } = sharing('interactive')
  await handler.handle(interactive('own'), signal)
  expect(sent[0]!.record.headers).toEqual({ model: 'own', 'turbine-id': 'cap_1', repeatable: '1' })
})

test('a record that cannot be read is for the handler, as are the dead ones', async () => {
  const { handler, handle, onDead } = sharing('batch')
  const damaged = consumed({ value: new TextEncoder().encode('{') }, { topic: topics.batch })
  await handler.handle(damaged, signal)
  expect(handle).toHaveBeenCalledOnce()
  await handler.onDead?.(damaged, new Error('broken'))
  expect(onDead).toHaveBeenCalledOnce()
})

test('a record that could not be moved comes again', async () => {
  const handler = routed({ handle: async () => {} }, 'mine', {
    lane: 'interactive',
    stream: { send: () => Promise.reject(new Error('away')) },
    ownTopics: () => true,
  })
  await expect(handler.handle(interactive('own'), signal)).rejects.toThrow('away')
})
