import { expect, test } from 'vitest'
import type { StoredBatch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import {
  BucketUnavailableError,
  type ObjectStore,
  StoreUnavailableError,
} from '../../../infra/store/store.ts'
import { Outages } from '../../delivery/outages.ts'
import { VirtualClock } from '../planner/virtual-clock.fixture.ts'
import { imageManifest, locateManifest, readManifest } from './source.ts'

const log = { info: () => {}, warn: () => {} }
const { signal } = new AbortController()

/** Reads all lines while the clock moves on by itself. */
async function readAll(store: ObjectStore, slices: Slice[]): Promise<(string | undefined)[]> {
  const clock = new VirtualClock()
  const texts: (string | undefined)[] = []
  const reading = (async () => {
    const outages = new Outages({ clock, log })
    for await (const lines of readManifest(slices, { store, outages, signal }))
      texts.push(...lines.map(({ text }) => text))
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
  const outages = new Outages({ clock: new VirtualClock(), log })
  const parts: Uint8Array[] = []
  for await (const part of imageManifest('s3://bucket/p/', bucket, { outages, signal })) parts.push(part)
  const lines = Buffer.concat(parts)
    .toString()
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line))
  expect(lines).toHaveLength(25)
  expect(lines[24]).toEqual({ custom_id: '24.jpg', image_url: 's3://bucket/p/24.jpg' })
})

test.each(['s3://theirs/work.jsonl', 's3://theirs/photos/'])(
  'a bucket that is closed ends the batch, since waiting does not open it: %s',
  async (input_uri) => {
    const { store } = memoryStore()
    const refuse = () => Promise.reject(new BucketUnavailableError('forbidden', 'It is closed.', {}))
    const closed = { ...store, head: refuse, list: refuse }
    const clock = new VirtualClock()
    const outages = new Outages({ clock, log })
    const grants = [{ uri: 's3://theirs/', access: 'read' }]
    await store.put(keys.tenant('acme'), JSON.stringify({ id: 'acme', grants }))
    const stored = { tenant: 'acme', batch: { id: 'batch_1', turbine: { input_uri } } } as StoredBatch
    const options = { store, buckets: () => closed, outages, signal, clock }
    await expect(locateManifest(stored, options)).rejects.toMatchObject({ code: 'input_not_found' })
  },
)
