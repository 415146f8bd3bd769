import { describe, expect, test } from 'vitest'
import type { StoredBatch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { InvalidKeyError } from '../../../infra/store/key.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { storeError } from '../../../infra/store/s3-errors.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import {
  type Buckets,
  BucketUnavailableError,
  type ObjectStore,
  StoreUnavailableError,
} from '../../../infra/store/store.ts'
import { Outages } from '../../delivery/outages.ts'
import { VirtualClock } from '../planner/virtual-clock.fixture.ts'
import { imageManifest, locateManifest, readManifest } from './source.ts'

const log = { info: () => {}, warn: () => {} }
const { signal } = new AbortController()
const giveUpMs = 3_600_000

/** Reads all lines while the clock moves on by itself. */
async function readAll(
  store: ObjectStore,
  slices: Slice[],
  { buckets, clock = new VirtualClock() }: { buckets?: Buckets; clock?: VirtualClock } = {},
): Promise<(string | undefined)[]> {
  const texts: (string | undefined)[] = []
  const reading = (async () => {
    const outages = new Outages({ clock, log })
    const options = { store, buckets, outages, signal, clock, giveUpAt: clock.now() + giveUpMs }
    for await (const lines of readManifest(slices, options)) texts.push(...lines.map(({ text }) => text))
    return true
  })()
  let over = false
  reading
    .catch(() => {})
    .finally(() => {
      over = true
    })
  await clock.until(() => over)
  await reading
  return texts
}

/** A store whose streams break off after so many bytes, again and again. */
function breaking(store: ObjectStore, afterBytes: number): ObjectStore {
  async function* broken(body: ReadableStream<Uint8Array>) {
    const bytes = new Uint8Array(await new Response(body).arrayBuffer())
    yield bytes.subarray(0, afterBytes)
    if (bytes.length > afterBytes) throw new StoreUnavailableError('The connection was cut.')
  }
  return {
    ...store,
    async get(key, range) {
      const object = await store.get(key, range)
      return object && { ...object, body: ReadableStream.from(broken(object.body)) }
    },
  }
}

test('reads on where it was when the store fails on the way', async () => {
  const { store } = memoryStore()
  await store.put('one', 'first\nsec')
  await store.put('two', 'xxxond\nthird\n')
  const slices = [
    { key: 'one', start: 0, end: 9 },
    { key: 'two', start: 3, end: 13 },
  ]
  for (const afterBytes of [1, 2, 3, 7, 100]) {
    expect(await readAll(breaking(store, afterBytes), slices)).toEqual(['first', 'second', 'third'])
  }
})

test.each([
  ['gone', undefined],
  ['shorter than it was', 'fir'],
])('a manifest that is %s', async (_, text) => {
  const { store } = memoryStore()
  if (text) await store.put('one', text)
  await expect(readAll(store, [{ key: 'one', start: 0, end: 9 }])).rejects.toMatchObject({
    code: 'input_not_found',
  })
  await expect(readAll(store, [{ key: 'one', start: 5, end: 9 }])).rejects.toMatchObject({
    code: 'input_not_found',
  })
})

test('a manifest of a bucket goes through all pages', async () => {
  const { store } = memoryStore()
  for (let i = 0; i < 25; i++) await store.put(`p/${String(i).padStart(2, '0')}.jpg`, '')
  const bucket: Pick<ObjectStore, 'list'> = {
    list: (prefix, options) => store.list(prefix, { ...options, limit: 10 }),
  }
  const clock = new VirtualClock()
  const options = { store, outages: new Outages({ clock, log }), signal, clock, giveUpAt: 0 }
  const parts: Uint8Array[] = []
  for await (const part of imageManifest('s3://bucket/p/', bucket, options)) parts.push(part)
  const lines = Buffer.concat(parts)
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toHaveLength(25)
  expect(lines[24]).toEqual({ custom_id: '24.jpg', image_url: 's3://bucket/p/24.jpg' })
})

/** Lets the tenant read the bucket. */
const grantTheirs = (store: ObjectStore) =>
  store.put(
    keys.tenant('acme'),
    JSON.stringify({ id: 'acme', grants: [{ uri: 's3://theirs/', access: 'read' }] }),
  )

test.each(['s3://theirs/work.jsonl', 's3://theirs/photos/'])(
  'a bucket that is closed ends the batch, since waiting does not open it: %s',
  async (input_uri) => {
    const { store } = memoryStore()
    const refuse = () => Promise.reject(new BucketUnavailableError('forbidden', 'It is closed.', {}))
    const closed = { ...store, head: refuse, list: refuse }
    const clock = new VirtualClock()
    const outages = new Outages({ clock, log })
    await grantTheirs(store)
    const stored = { tenant: 'acme', batch: { id: 'batch_1', turbine: { input_uri } } } as StoredBatch
    const options = { store, buckets: () => closed, outages, signal, clock, giveUpAt: 0 }
    await expect(locateManifest(stored, options)).rejects.toMatchObject({ code: 'input_not_found' })
  },
)

const said = (status: number, name: string) =>
  storeError(Object.assign(new Error('no'), { name, $metadata: { httpStatusCode: status } }), {
    server: 'S3',
    bucket: 'theirs',
  })
const refusal = said(403, 'InvalidObjectState')
const overload = said(503, 'SlowDown')

/** A bucket in which every call fails, and how often it was called. */
function failingBucket(error: () => Error | undefined) {
  const { store } = memoryStore()
  let calls = 0
  const fail = <A extends unknown[], T>(call: (...args: A) => Promise<T>) => {
    return async (...args: A) => {
      calls++
      const failure = error()
      if (failure) throw failure
      return call(...args)
    }
  }
  const bucket = { ...store, get: fail(store.get), head: fail(store.head), list: fail(store.list) }
  return { bucket, store, calls: () => calls }
}

/** What becomes of the input of a batch, on a clock that moves by itself. */
async function locate(
  input_uri: string,
  bucket: ObjectStore,
  own = memoryStore().store,
  clock = new VirtualClock(),
) {
  // The tenant's grants are read from an own store that works.
  const tenants = memoryStore().store
  await grantTheirs(tenants)
  const get: ObjectStore['get'] = (key, ...rest) =>
    (key === keys.tenant('acme') ? tenants : own).get(key, ...rest)
  const store = { ...own, get }
  const stored = { tenant: 'acme', batch: { id: 'batch_1', turbine: { input_uri } } } as StoredBatch
  const warnings: string[] = []
  const outages = new Outages({
    clock,
    log: { info: () => {}, warn: (_, message) => warnings.push(message) },
  })
  const giveUpAt = clock.now() + giveUpMs
  let end: unknown
  locateManifest(stored, { store, buckets: () => bucket, outages, signal, clock, giveUpAt }).then(
    (slices) => (end = slices),
    (error) => (end = error),
  )
  await clock.until(() => end !== undefined, { limitMs: 2 * giveUpMs, stepMs: 10_000 })
  return { end, warnings, tookMs: clock.now() - (giveUpAt - giveUpMs) }
}

describe.each(['s3://theirs/work.jsonl', 's3://theirs/photos/'])('the input %s', (uri) => {
  test.each([
    ['input_unavailable', refusal, 'S3 said 403 InvalidObjectState'],
    ['input_not_found', new InvalidKeyError('The key has no end.'), 'The key has no end.'],
    ['input_unavailable', new URIError('malformed'), 'URIError'],
  ])('that S3 never gives out ends its batch at once: %s', async (code, error, message) => {
    const { bucket } = failingBucket(() => error)
    const { end, tookMs } = await locate(uri, bucket)
    expect(end).toMatchObject({ name: 'BatchInputError', code, message: expect.stringContaining(message) })
    expect(tookMs).toBeLessThan(60_000)
  })

  test('whose bucket cannot serve is tried again, and is no outage', async () => {
    let failures = 4
    const { bucket, store } = failingBucket(() => (failures-- > 0 ? overload : undefined))
    await store.put('work.jsonl', 'x')
    await store.put('photos/a.jpg', 'x')
    const { end, warnings } = await locate(uri, bucket)
    expect(end).toMatchObject([{ start: 0 }])
    expect(warnings).toEqual([])
  })

  test('whose bucket never serves ends its batch in time, and is asked ever less', async () => {
    const { bucket, calls } = failingBucket(() => overload)
    const { end, tookMs } = await locate(uri, bucket)
    expect(end).toMatchObject({ code: 'input_unavailable', message: expect.stringContaining('503 SlowDown') })
    expect(tookMs).toBeGreaterThanOrEqual(giveUpMs)
    expect(calls()).toBeLessThan(80)
  })

  test("waits as long as the service's own store is away too", async () => {
    const clock = new VirtualClock()
    const backAt = clock.now() + giveUpMs + 600_000
    const away = () => (clock.now() < backAt ? new StoreUnavailableError('away') : undefined)
    const theirs = failingBucket(away)
    await theirs.store.put('work.jsonl', 'x')
    await theirs.store.put('photos/a.jpg', 'x')
    const { end, warnings } = await locate(uri, theirs.bucket, failingBucket(away).bucket, clock)
    expect(end).toMatchObject([{ start: 0 }])
    expect(warnings).toHaveLength(1)
  })
})

test.each([
  ['input_unavailable', 'never', refusal],
  ['input_unavailable', 'not in time', overload],
])('%s: a manifest in the bucket of a caller that is given out %s', async (code, _, error) => {
  const slices = [{ bucket: 'theirs', key: 'work.jsonl', start: 0, end: 9 }]
  const buckets = () => failingBucket(() => error).bucket
  await expect(readAll(memoryStore().store, slices, { buckets })).rejects.toMatchObject({ code })
})
