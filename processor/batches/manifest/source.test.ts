import { gzipSync } from 'node:zlib'
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
import { locateManifest, readManifest } from './source.ts'

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
    ({ slices }) => (end = slices),
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

/** Locates the input of a batch, and reads its lines. */
async function linesAt(
  input: { uri: string } | { file: string | Uint8Array; filename: string },
  given: { bucket?: ObjectStore; own?: ObjectStore; grant?: string } = {},
) {
  const { bucket = memoryStore().store, own = memoryStore().store, grant = 's3://theirs/' } = given
  const clock = new VirtualClock()
  const outages = new Outages({ clock, log })
  const options = { store: own, buckets: () => bucket, outages, signal, clock, giveUpAt: 0 }
  await own.put(keys.tenant('acme'), JSON.stringify({ id: 'acme', grants: [{ uri: grant, access: 'read' }] }))
  if ('file' in input) {
    await own.put('content', input.file)
    const { size } = (await own.head('content'))!
    const stored = { file: { filename: input.filename }, slices: [{ key: 'content', start: 0, end: size }] }
    await own.put(keys.file('acme', 'file-1'), JSON.stringify(stored))
  }
  const turbine = 'uri' in input ? { input_uri: input.uri } : {}
  const batch = { id: 'batch_1', input_file_id: 'uri' in input ? null : 'file-1', turbine }
  const located = await locateManifest({ tenant: 'acme', batch } as StoredBatch, options)
  const lines: string[] = []
  for await (const some of readManifest(located.slices, options))
    for (const { text } of some) if (text?.trim()) lines.push(text.trim())
  return { ...located, lines, own }
}

async function bucketOf(...keys: string[]): Promise<ObjectStore> {
  const { store } = memoryStore({ asBucket: true })
  for (const key of keys) await store.put(key, 'x')
  return store
}

const line = (key: string, customId = key) =>
  JSON.stringify({ custom_id: customId, image_url: `s3://theirs/${key}` })

describe('a list of another shape is read as lines', () => {
  const urls = ['https://example.com/é.jpg', 'https://example.com/b.jpg']
  const text = `${urls.join('\n')}\n`
  const entries = urls.map((image) => JSON.stringify({ image }))

  test.each<[string, string | Uint8Array, string[]]>([
    ['list.txt', text, urls],
    ['utf16.jsonl', Buffer.from(`\uFEFF${text}`, 'utf16le'), urls],
    ['utf16be.jsonl', Buffer.from(`\uFEFF${text}`, 'utf16le').swap16(), urls],
    ['list.json', JSON.stringify(urls, undefined, 2), urls.map((url) => JSON.stringify(url))],
    ['list.csv', `image,width\n${urls.map((url) => `${url},1`).join('\n')}`, entries],
    ['no-name', `custom_id,url\n1,${urls[0]}\n`, [JSON.stringify({ image: urls[0], custom_id: '1' })]],
  ])('%s', async (filename, content, expected) => {
    expect((await linesAt({ file: content, filename })).lines).toEqual(expected)
    const bucket = await bucketOf()
    await bucket.put(filename, content)
    expect((await linesAt({ uri: `s3://theirs/${filename}` }, { bucket })).lines).toEqual(expected)
  })

  test('and a table that cannot be read on is told', async () => {
    const broken = linesAt({ file: 'image\n"a.jpg\n', filename: 'list.csv' })
    await expect(broken).rejects.toMatchObject({
      code: 'input_invalid',
      message: expect.stringContaining('line 2'),
    })
  })

  test.each([
    ['a picture', Buffer.from([0xff, 0xd8, 0xff, 0xe0]), /a JPEG.*a line for each picture/],
    ['compressed', gzipSync(text), /an archive\. Unpack it\./],
    ['a page', Buffer.from('<!doctype html><title>Sign in</title>'), /HTML/],
    ['a pointer', Buffer.from('version https://git-lfs.github.com/spec/v1\n'), /git lfs pull/],
  ])('and what is %s is no list, and refused by its name', async (_, content, message) => {
    const bucket = await bucketOf()
    await bucket.put('list.jsonl', content)
    const located = linesAt({ uri: 's3://theirs/list.jsonl' }, { bucket })
    await expect(located).rejects.toMatchObject({
      code: 'input_invalid',
      message: expect.stringMatching(message),
    })
  })

  test('and stays where it is when it has lines', async () => {
    const { slices } = await linesAt({ file: text, filename: 'list.txt' })
    expect(slices).toMatchObject([{ key: 'content' }])
  })
})

test('below a prefix is what would be in a folder, and the rest is counted', async () => {
  const images = ['p/a b+%.jpg', 'p/A.JFIF', 'p/b.heic', 'p//c.jpg', 'p/./d.jpg', 'p/日本.BMP']
  const bytes: Record<string, string> = { 'p/e': 'GIF89a', 'p/f.jpg?w=200': '\x89PNG\r\n\x1a\n' }
  const left = [
    'p/.DS_Store',
    'p/._a.jpg',
    'p/.git/a.jpg',
    'p/.git/b.jpg',
    'p/__MACOSX/x/._a.jpg',
    'p/Thumbs.db',
  ]
  const bucket = await bucketOf(...images, ...left, 'p/notes.txt', 'p/README', 'q/z.jpg')
  for (const [key, head] of Object.entries(bytes)) await bucket.put(key, Buffer.from(head, 'latin1'))
  await bucket.put('p/', '')
  await bucket.put('p/empty', '')
  await bucket.put('p/folder/', '')
  for (const uri of ['s3://theirs/p/', 's3://theirs/p']) {
    const { lines, skipped, own } = await linesAt({ uri }, { bucket })
    const expected = [...images, ...Object.keys(bytes)]
    expect([...lines].sort()).toEqual(expected.map((key) => line(key, key.slice(2))).sort())
    expect(skipped).toEqual({ hidden: 5, not_image: 3 })
    // Another planner takes over.
    await bucket.put('p/later.jpg', 'x')
    const again = await linesAt({ uri }, { bucket, own })
    expect([again.lines, again.skipped]).toEqual([lines, skipped])
    await bucket.delete('p/later.jpg')
  }
})

test('an object that cannot be looked at is a line, which tells why', async () => {
  const bucket = await bucketOf('p/a', 'p/b')
  const faults: Record<string, Error> = {
    'p/a': refusal,
    'p/b': new BucketUnavailableError('forbidden', 'It is closed.', {}),
  }
  const closed = { ...bucket, get: (key: string) => Promise.reject(faults[key]) }
  const { lines } = await linesAt({ uri: 's3://theirs/p/' }, { bucket: closed })
  expect(lines).toEqual([line('p/a', 'a'), line('p/b', 'b')])
})

describe('an input without the slash of a prefix', () => {
  test('is the object where there is one', async () => {
    const bucket = await bucketOf('p', 'p/a.jpg')
    expect((await linesAt({ uri: 's3://theirs/p' }, { bucket })).lines).toEqual(['x'])
  })

  test.each([
    ['nothing is there', 's3://theirs/'],
    ['what is below was not granted', 's3://theirs/other'],
  ])('is told, where %s', async (_, grant) => {
    const uri = grant === 's3://theirs/' ? 's3://theirs/none' : grant
    const located = linesAt({ uri }, { bucket: await bucketOf('other/a.jpg'), grant })
    await expect(located).rejects.toMatchObject({
      code: 'input_not_found',
      message: expect.stringContaining(`${uri}/`),
    })
  })
})

test('a manifest of a bucket goes through all pages', async () => {
  const names = Array.from({ length: 25 }, (_, index) => `${String(index).padStart(2, '0')}.jpg`)
  const bucket = await bucketOf(...names.map((name) => `p/${name}`))
  const paged = {
    ...bucket,
    list: ((prefix, options) => bucket.list(prefix, { ...options, limit: 10 })) as typeof bucket.list,
  }
  const { lines } = await linesAt({ uri: 's3://theirs/p/' }, { bucket: paged })
  expect(lines).toEqual(names.map((name) => line(`p/${name}`, name)))
})
