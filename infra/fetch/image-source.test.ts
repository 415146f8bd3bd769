import { expect, test } from 'vitest'
import { memoryStore } from '../store/memory.fixture.ts'
import {
  type Buckets,
  BucketUnavailableError,
  type ObjectStore,
  StoreUnavailableError,
} from '../store/store.ts'
import { createImageSource, type ImageAsk, type ImageSourceOptions } from './image-source.ts'

const { signal } = new AbortController()
const granted = (uri: string) => {
  const [, bucket, key] = /^s3:\/\/(\w+)\/(.*)$/.exec(uri)!
  return { bucket: bucket!, key: key! }
}
const ask: ImageAsk = { granted, signal }
const bytes = new TextEncoder().encode('pixels')
const pixels = () => new Response(bytes, { headers: { 'content-type': 'image/png' } })

/** A source whose https addresses answer in turn: an error is thrown, a number is a status. */
function source(answers: (Error | number | 'pixels')[] = [], options: Partial<ImageSourceOptions> = {}) {
  const fetched: string[] = []
  const imageAt = createImageSource({
    maxBytes: 10,
    retryPausesMs: [0, 0],
    ...options,
    async fetch(url) {
      const answer = answers[fetched.push(String(url)) - 1]!
      if (answer instanceof Error) throw answer
      return answer === 'pixels' ? pixels() : new Response('', { status: answer })
    },
  })
  return { imageAt, fetched }
}

async function bucketsWith(objects: Record<string, Uint8Array>): Promise<Buckets> {
  const { store } = memoryStore()
  for (const [key, body] of Object.entries(objects)) await store.put(key, body)
  return () => store
}

/** Buckets in which every read fails. */
const failing =
  (error: Error): Buckets =>
  () =>
    ({ get: () => Promise.reject(error) }) as Partial<ObjectStore> as ObjectStore

test('reads data, https and s3 addresses, and paths where they are read', async () => {
  const readFile = async (path: string) => new TextEncoder().encode(path)
  const buckets = await bucketsWith({ 'acme/a.png': bytes })
  const { imageAt } = source(['pixels'], { buckets, readFile })
  for (const url of ['DATA:image/png;base64,cGl4ZWxz', 'https://example.com/a.png', 's3://photos/acme/a.png'])
    expect(await imageAt(url, ask)).toEqual(bytes)
  for (const path of ['a.png', '/photos/a.png', 'https:a.png', 's3:a.png'])
    expect(new TextDecoder().decode(await imageAt(path, ask))).toBe(path)
})

test.each(['a.png', '/etc/passwd', 'file:///etc/passwd', 'ftp://example.com/a', 'http://example.com/', ''])(
  '%j is no address',
  async (address) => {
    const { imageAt, fetched } = source()
    const failure = imageAt(address, ask)
    await expect(failure).rejects.toMatchObject({
      code: 'image_url_invalid',
      param: 'image_url',
      status: 400,
    })
    expect(fetched).toEqual([])
  },
)

test('tries an address three times where that makes sense', async () => {
  const recovering = source([new TypeError('lost'), 503, 'pixels'])
  expect(await recovering.imageAt('https://example.com/', ask)).toEqual(bytes)
  const failing = source([503, 503, 500])
  const failure = failing.imageAt('https://example.com/', ask)
  await expect(failure).rejects.toMatchObject({
    name: 'ImageError',
    code: 'image_url_status',
    retriable: true,
  })
  expect(failing.fetched).toHaveLength(3)
})

test.each([[403], [404], [400]])('status %i is not tried again', async (status) => {
  const { imageAt, fetched } = source([status])
  await expect(imageAt('https://example.com/', ask)).rejects.toMatchObject({ retriable: false })
  expect(fetched).toHaveLength(1)
})

test('without pauses an address is tried once', async () => {
  const { imageAt, fetched } = source([503], { retryPausesMs: undefined })
  await expect(imageAt('https://example.com/', ask)).rejects.toMatchObject({ code: 'image_url_status' })
  expect(fetched).toHaveLength(1)
})

test.each([
  ['s3://photos/none.png', 'image_not_found'],
  ['s3://photos/large.png', 'image_url_too_large'],
  ['s3://photos/acme//a.png', 's3_uri_invalid'],
  ['data:image/png,plain', 'image_url_invalid'],
  [`data:;base64,${Buffer.alloc(11).toString('base64')}`, 'image_url_too_large'],
])('%s is %s', async (url, code) => {
  const { imageAt } = source([], { buckets: await bucketsWith({ 'large.png': new Uint8Array(11) }) })
  await expect(imageAt(url, ask)).rejects.toMatchObject({ code, param: 'image_url', retriable: false })
})

test('an address that is not granted reaches no bucket', async () => {
  const buckets: Buckets = () => expect.unreachable()
  const refusal = new Error('not granted')
  const refuse = () => {
    throw refusal
  }
  const failure = source([], { buckets }).imageAt('s3://other/a.png', { granted: refuse, signal })
  await expect(failure).rejects.toBe(refusal)
})

test('without S3 an s3 address says what to do', async () => {
  const failure = source().imageAt('s3://photos/acme/a.png', ask)
  await expect(failure).rejects.toMatchObject({ code: 's3_unavailable', param: 'image_url' })
  await expect(failure).rejects.toThrow('S3_ENDPOINT')
})

test.each([
  ['missing', 'image_not_found'],
  ['forbidden', 'image_forbidden'],
] as const)('a %s bucket is the fault of the address', async (fault, code) => {
  const buckets = failing(new BucketUnavailableError(fault, 'S3 at 10.0.0.1 says no.', {}))
  const failure = source([], { buckets }).imageAt('s3://photos/a.png', ask)
  await expect(failure).rejects.toMatchObject({ code, retriable: false })
  await expect(failure).rejects.not.toThrow('10.0.0.1')
})

test('S3 being away is not', async () => {
  const away = new StoreUnavailableError('S3 is away')
  const { imageAt } = source([], { buckets: failing(away) })
  await expect(imageAt('s3://photos/acme/a.png', ask)).rejects.toBe(away)
})

test('ends with the reason of the signal, also between two tries and in the middle of an object', async () => {
  const abort = new AbortController()
  const reason = new Error('shutting down')
  const gone = { granted, signal: abort.signal }
  let cancelled = false
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        controller.enqueue(bytes)
        abort.abort(reason)
      },
      cancel: () => {
        cancelled = true
      },
    },
    { highWaterMark: 0 },
  )
  const object = { key: 'a', size: 9, etag: '', lastModified: 0, contentType: '', body }
  const store = { get: async () => object } as Partial<ObjectStore> as ObjectStore
  const { imageAt } = source([], { buckets: () => store })
  await expect(imageAt('s3://photos/a', gone)).rejects.toBe(reason)
  await expect.poll(() => cancelled).toBe(true)
  await expect(imageAt('data:;base64,', gone)).rejects.toBe(reason)

  const second = new AbortController()
  const waiting = createImageSource({
    maxBytes: 10,
    retryPausesMs: [60_000],
    fetch: async () => {
      setImmediate(() => second.abort(reason))
      return new Response('', { status: 503 })
    },
  })
  await expect(waiting('https://example.com/', { granted, signal: second.signal })).rejects.toBe(reason)
})
