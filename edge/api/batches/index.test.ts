import { expect, test } from 'vitest'
import { StreamUnavailableError } from '../../../infra/stream/stream.ts'
import { errorOf } from '../../app.fixture.ts'
import { type Batch, batchSchema, type StoredBatch } from '../../contract/batch.ts'
import { keys } from '../../contract/keys.ts'
import { blipCapabilities } from '../../contract/model.ts'
import { decodeControl } from '../../contract/shard.ts'
import { bucketTenant, fromBucket, fromFile, resourceEdge, startSeconds } from '../resources.fixture.ts'

type Edge = ReturnType<typeof resourceEdge>

const create = (edge: Edge, json: unknown, headers = {}) =>
  edge.call('POST', '/v1/batches', { json, headers })

async function started(edge: Edge, fields: object = {}): Promise<Batch> {
  const response = await create(edge, {
    ...fromFile(await edge.upload('https://example.com/1.jpg')),
    ...fields,
  })
  return (await response.json()) as Batch
}

const controls = (edge: Edge) =>
  edge.sent.map(({ topic, record }) => {
    expect(topic).toBe('turbine.control')
    return decodeControl(record)
  })

/** What a coordinator would write. */
async function progress(edge: Edge, batch: Batch, change: Partial<Batch>) {
  const stored: StoredBatch = { tenant: 'default', batch: { ...batch, ...change } }
  await edge.deps.store.put(keys.batch('default', batch.id), JSON.stringify(stored))
}

test('a batch is kept, marked as open and told to the planners', async () => {
  const edge = resourceEdge()
  const file = await edge.upload('https://example.com/1.jpg')
  const metadata = { dataset: 'harbour' }
  const output_expires_after = { anchor: 'created_at', seconds: 7200 }
  const response = await create(edge, { ...fromFile(file), metadata, output_expires_after })
  expect(response.status).toBe(200)
  const batch = batchSchema.strict().parse(await response.json())
  expect(batch).toEqual({
    id: expect.stringMatching(/^batch_\w+$/),
    object: 'batch',
    endpoint: '/v1/chat/completions',
    model: 'starter',
    errors: null,
    input_file_id: file,
    completion_window: '24h',
    status: 'validating',
    output_file_id: null,
    error_file_id: null,
    created_at: startSeconds,
    in_progress_at: null,
    expires_at: startSeconds + 86_400,
    finalizing_at: null,
    completed_at: null,
    failed_at: null,
    expired_at: null,
    cancelling_at: null,
    cancelled_at: null,
    request_counts: { total: 0, completed: 0, failed: 0 },
    usage: null,
    metadata,
    turbine: { max_prune: 1, prune_ratio_mean: null, counting: true },
  })
  const kept = (key: string) => JSON.parse(new TextDecoder().decode(edge.objects.get(key)))
  expect(kept(keys.batch('default', batch.id))).toEqual({
    tenant: 'default',
    batch,
    outputExpiresAfter: 7200,
    reading: { can: blipCapabilities },
  })
  expect(kept(keys.openBatch('default', batch.id))).toEqual({ tenant: 'default', batch: batch.id })
  expect(controls(edge)).toEqual([{ type: 'batch_created', tenant: 'default', batch: batch.id }])
  expect(await (await edge.call('GET', `/v1/batches/${batch.id}`)).json()).toEqual(batch)
})

test('a batch can read and write buckets', async () => {
  const edge = resourceEdge({}, [bucketTenant])
  const batch = (await (await create(edge, fromBucket)).json()) as Batch
  expect(batch).toMatchObject({
    input_file_id: null,
    expires_at: startSeconds + 900,
    turbine: fromBucket.turbine,
  })
})

test('a tenant has as many open batches as it may', async () => {
  const edge = resourceEdge({}, [{ ...bucketTenant, limits: { openBatches: 2 } }])
  const first = await started(edge)
  await started(edge)
  const third = await create(edge, fromBucket)
  expect([third.status, third.headers.get('retry-after')]).toEqual([429, '30'])
  expect((await errorOf(third)).code).toBe('too_many_open_batches')
  await edge.deps.store.delete(keys.openBatch('default', first.id))
  expect((await create(edge, fromBucket)).status).toBe(200)
})

const refusing = { send: () => Promise.reject(new StreamUnavailableError('away')) }

test('a batch that the stream refuses is 503 and is not there', async () => {
  const edge = resourceEdge({ stream: refusing }, [bucketTenant])
  const response = await create(edge, fromBucket)
  expect([response.status, (await errorOf(response)).code]).toEqual([503, 'stream_unavailable'])
  expect(edge.kept()).toEqual([])
})

test('a repeat with the same idempotency key finds the batch, also one that the stream had refused', async () => {
  let away = true
  const edge: Edge = resourceEdge(
    {
      stream: {
        send: async (topic, records) => {
          if (away) return refusing.send()
          edge.sent.push(...records.map((record) => ({ topic, record })))
        },
      },
    },
    [bucketTenant],
  )
  const send = () => create(edge, fromBucket, { 'idempotency-key': 'k' })
  expect((await send()).status).toBe(503)
  const begun = edge.kept().filter((key) => key.startsWith('batches/'))
  expect(begun).toHaveLength(1)
  away = false
  const accepted = await send()
  expect(accepted.status).toBe(200)
  const batch = await accepted.json()
  const repeated = await send()
  expect(await repeated.json()).toEqual(batch)
  expect(repeated.headers.get('idempotent-replayed')).toBe('true')
  expect(edge.kept().filter((key) => key.startsWith('batches/'))).toEqual(begun)
  expect(new Set(controls(edge).map((control) => control.batch)).size).toBe(1)
})

test('a repeat is answered although its input is gone by now, and a finished batch is not begun again', async () => {
  const edge = resourceEdge()
  const file = await edge.upload('https://example.com/1.jpg')
  const send = () => create(edge, fromFile(file), { 'idempotency-key': 'k' })
  const batch = (await (await send()).json()) as Batch
  await edge.call('DELETE', `/v1/files/${file}`)
  await progress(edge, batch, { status: 'completed' })
  await edge.deps.store.delete(keys.openBatch('default', batch.id))
  expect(await (await send()).json()).toMatchObject({ id: batch.id, status: 'completed' })
  expect(controls(edge)).toHaveLength(1)
  expect(edge.objects.has(keys.openBatch('default', batch.id))).toBe(false)
})

test('a batch is cancelling as soon as it is cancelled, whatever its coordinator has written', async () => {
  const edge = resourceEdge()
  const batch = await started(edge)
  edge.later(5)
  const cancelled = await edge.call('POST', `/v1/batches/${batch.id}/cancel`)
  const cancelling = { ...batch, status: 'cancelling', cancelling_at: startSeconds + 5 }
  expect(await cancelled.json()).toEqual(cancelling)
  expect(controls(edge)[1]).toEqual({ type: 'batch_cancelled', tenant: 'default', batch: batch.id })
  expect(await (await edge.call('GET', `/v1/batches/${batch.id}`)).json()).toEqual(cancelling)

  edge.later(5)
  expect(await (await edge.call('POST', `/v1/batches/${batch.id}/cancel`)).json()).toEqual(cancelling)
  await progress(edge, batch, { status: 'cancelled', cancelled_at: startSeconds + 10 })
  const ended = await edge.call('POST', `/v1/batches/${batch.id}/cancel`)
  expect(await ended.json()).toMatchObject({ status: 'cancelled' })
})

test.each(['completed', 'failed', 'expired'] as const)(
  'a batch that is %s cannot be cancelled',
  async (status) => {
    const edge = resourceEdge()
    const batch = await started(edge)
    await progress(edge, batch, { status })
    const response = await edge.call('POST', `/v1/batches/${batch.id}/cancel`)
    expect([response.status, (await errorOf(response)).code]).toEqual([400, 'batch_not_cancellable'])
    expect(edge.objects.has(keys.batchCancel('default', batch.id))).toBe(false)
  },
)

test('a batch is cancelled also while the planners cannot be told', async () => {
  const edge = resourceEdge()
  const batch = await started(edge)
  const deaf = resourceEdge({ store: edge.deps.store, stream: refusing })
  const response = await deaf.call('POST', `/v1/batches/${batch.id}/cancel`)
  expect(response.status).toBe(200)
  expect(edge.objects.has(keys.batchCancel('default', batch.id))).toBe(true)
  expect(deaf.logged).toEqual([expect.objectContaining({ level: 'warn' })])
})

test('batches are listed page by page, the newest first', async () => {
  const edge = resourceEdge()
  const ids: string[] = []
  for (let count = 0; count < 3; count++) {
    ids.unshift((await started(edge)).id)
    edge.later(1)
  }
  const first = await (await edge.call('GET', '/v1/batches?limit=2')).json()
  expect(first).toMatchObject({ object: 'list', first_id: ids[0], last_id: ids[1], has_more: true })
  const rest = (await (await edge.call('GET', `/v1/batches?after=${ids[1]}`)).json()) as { data: Batch[] }
  expect(rest.data.map(({ id }) => id)).toEqual([ids[2]])
  expect((await edge.call('GET', '/v1/batches?limit=101')).status).toBe(400)
})

test("another tenant's batch is not there, in the same words as one that never was", async () => {
  const edge = resourceEdge()
  const { id } = await started(edge)
  for (const [method, path] of [
    ['GET', ''],
    ['POST', '/cancel'],
  ] as const) {
    const foreign = await edge.call(method, `/v1/batches/${id}${path}`, { tenant: 'other' })
    const absent = await edge.call(method, `/v1/batches/batch_none${path}`, { tenant: 'other' })
    expect([foreign.status, absent.status]).toEqual([404, 404])
    expect((await errorOf(foreign)).message.replace(id, 'batch_none')).toBe((await errorOf(absent)).message)
  }
  expect(await (await edge.call('GET', '/v1/batches', { tenant: 'other' })).json()).toMatchObject({
    data: [],
  })
})
