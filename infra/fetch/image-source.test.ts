import * as zlib from 'node:zlib'
import { describe, expect, test } from 'vitest'
import type { Decoders } from '../compression/content-encoding.ts'
import { nodeDecoders } from '../compression/node-decoders.ts'
import { webDecoders } from '../compression/web-decoders.ts'
import { memoryStore } from '../store/memory.fixture.ts'
import { storeError } from '../store/s3-errors.ts'
import { type Buckets, BucketUnavailableError, type ObjectStore } from '../store/store.ts'
import { HostPaces } from './host-paces.ts'
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

test.each([
  [503, true],
  [500, true],
  [403, false],
  [404, false],
  [400, false],
])('status %i can be tried again: %s', async (status, retriable) => {
  const { imageAt, fetched } = source([status])
  await expect(imageAt('https://example.com/', ask)).rejects.toMatchObject({ name: 'ImageError', retriable })
  expect(fetched).toHaveLength(1)
})

test.each([
  ['s3://photos/none.png', 'image_not_found'],
  ['s3://photos/large.png', 'image_url_too_large'],
  ['s3://photos/acme//a.png', 's3_uri_invalid'],
  ['data:image/png;base64,pl*in', 'image_url_invalid'],
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

/** What S3 says of one object, by a client of the SDK. */
const sdkError = (status: number | undefined, code: string) =>
  Object.assign(new Error('no'), { name: code, $metadata: { httpStatusCode: status } })
const said = (status: number | undefined, code: string) =>
  storeError(sdkError(status, code), { server: 'S3 at 10.0.0.1', bucket: 'photos' })

describe('what S3 says of an object is the fault of the image', () => {
  test.each([
    ['archived', said(403, 'InvalidObjectState'), '403 InvalidObjectState'],
    ['encrypted with a key of the caller', said(400, 'InvalidRequest'), '400 InvalidRequest'],
    ['encrypted with a key that is off', said(400, 'KMS.DisabledException'), '400 KMS.DisabledException'],
    ['its key refused', said(400, 'InvalidArgument'), '400 InvalidArgument'],
  ])('for good: %s', async (_, error, answer) => {
    const failure = source([], { buckets: failing(error) }).imageAt('s3://photos/a.png', ask)
    await expect(failure).rejects.toMatchObject({ code: 'image_unreadable', status: 400, retriable: false })
    await expect(failure).rejects.toThrow(`s3://photos/a.png: ${answer}`)
    await expect(failure).rejects.not.toThrow('10.0.0.1')
  })

  test.each([
    ['in another region', said(301, 'PermanentRedirect'), 'image_not_found'],
    ['without the right to its key', said(403, 'AccessDenied'), 'image_forbidden'],
  ])('for good: %s', async (_, error, code) => {
    const failure = source([], { buckets: failing(error) }).imageAt('s3://photos/a.png', ask)
    await expect(failure).rejects.toMatchObject({ code, retriable: false })
    await expect(failure).rejects.toThrow(/S3 said: (301 PermanentRedirect|403 AccessDenied)/)
  })

  test.each([
    ['overloaded', said(503, 'SlowDown'), '503 SlowDown'],
    ['failing', said(500, 'InternalError'), '500 InternalError'],
    ['refused without a reason', said(403, 'Forbidden'), '403 Forbidden'],
    ['out of reach', said(undefined, 'ECONNRESET'), 'ECONNRESET'],
    ['a defect of the client', new TypeError('undefined is no date'), 'TypeError'],
  ])('for now: %s', async (_, error, answer) => {
    const failure = source([], { buckets: failing(error) }).imageAt('s3://photos/a.png', ask)
    await expect(failure).rejects.toMatchObject({
      code: 'image_unavailable',
      status: 503,
      retriable: true,
      retryAfterSeconds: 1,
      cause: error,
    })
    await expect(failure).rejects.toThrow(`s3://photos/a.png now: ${answer}`)
  })

  const objectOf = (body: ReadableStream<Uint8Array>, size = 9) =>
    ({
      get: async () => ({ key: 'a', size, etag: '', lastModified: 0, contentType: '', body }),
    }) as Partial<ObjectStore> as ObjectStore

  test('for now: cut off, or silent in the middle, which is closed', async () => {
    const short = source([], { buckets: () => objectOf(new Blob([bytes]).stream()) })
    await expect(short.imageAt('s3://photos/a', ask)).rejects.toThrow('it is shorter than announced')

    let closed = false
    const silent = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(bytes),
      cancel: () => {
        closed = true
      },
    })
    const { imageAt } = source([], { buckets: () => objectOf(silent), timeoutMs: 20 })
    await expect(imageAt('s3://photos/a', ask)).rejects.toThrow('it did not come within 20 ms')
    expect(closed).toBe(true)
  })

  test('for now: not found in time, which ends the search', async () => {
    const get: ObjectStore['get'] = (_key, _range, { signal } = {}) =>
      new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason)))
    const store = { get } as Partial<ObjectStore> as ObjectStore
    const { imageAt } = source([], { buckets: () => store, timeoutMs: 20 })
    await expect(imageAt('s3://photos/a', ask)).rejects.toMatchObject({ code: 'image_unavailable' })
  })
})

test('waiting for memory is not the time of the host, and says how much it is', async () => {
  const asked: number[] = []
  const room = async (size: number) => {
    asked.push(size)
    await new Promise((resolve) => setTimeout(resolve, 40))
  }
  const { imageAt } = source(['pixels'], { timeoutMs: 20, buckets: await bucketsWith({ a: bytes }) })
  expect(await imageAt('s3://photos/a', { ...ask, room })).toEqual(bytes)
  expect(await imageAt('https://example.com/', { ...ask, room })).toEqual(bytes)
  // A web server that does not tell its length can send the maximum.
  expect(asked).toEqual([6, 10])
})

test('ends with the reason of the signal, also in the middle of an object', async () => {
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
})

describe('an object that is stored compressed', () => {
  const encoded = (body: Uint8Array, contentEncoding: string): Buckets => {
    const object = { key: 'a', size: body.length, etag: '1', lastModified: 0, contentType: 'image/png' }
    const get = async () => ({
      ...{ ...object, contentEncoding },
      body: new Response(body as Uint8Array<ArrayBuffer>).body!,
    })
    return () => ({ get }) as Partial<ObjectStore> as ObjectStore
  }
  const read = (body: Uint8Array, contentEncoding: string, decoders: Decoders = nodeDecoders) =>
    source([], { buckets: encoded(body, contentEncoding), decoders }).imageAt('s3://photos/a', ask)

  test.each<[string, (body: Uint8Array) => Uint8Array]>([
    ['gzip', zlib.gzipSync],
    ['deflate', zlib.deflateSync],
    ['deflate', zlib.deflateRawSync],
    ['br', zlib.brotliCompressSync],
    ['zstd', zlib.zstdCompressSync],
    ['aws-chunked', (body) => body],
    ['identity', (body) => body],
    // Only its metadata say so.
    ['gzip', (body) => body],
  ])('with %s is the image', async (encoding, encode) => {
    expect(new Uint8Array(await read(encode(bytes), encoding))).toEqual(bytes)
  })

  test('is no larger than an image may be', async () => {
    const bomb = zlib.gzipSync(new Uint8Array(1e7))
    await expect(read(bomb, 'gzip')).rejects.toMatchObject({ code: 'image_url_too_large' })
  })

  test('and is damaged is said to be that', async () => {
    const damaged = zlib.gzipSync(bytes).map((byte, i) => (i > 8 ? byte ^ 0x55 : byte))
    await expect(read(damaged, 'gzip')).rejects.toMatchObject({ code: 'image_invalid', retriable: false })
  })

  test.each([
    ['compress', nodeDecoders],
    ['br', webDecoders],
  ])('with %s is refused by name where it cannot be undone', async (encoding, decoders) => {
    const refused = read(bytes, encoding, decoders)
    await expect(refused).rejects.toMatchObject({ code: 'image_unreadable', retriable: false })
    await expect(refused).rejects.toThrow(`Content-Encoding ${encoding}`)
  })
})

describe('a bucket that asks for less', () => {
  const slowDown = Object.assign(new Error('x'), { name: 'SlowDown', $metadata: { httpStatusCode: 503 } })
  const busy = storeError(slowDown, { server: 'S3', bucket: 'photos' })

  test('is asked for less, and no other', async () => {
    const hosts = new HostPaces({ random: () => 1 })
    const buckets: Buckets = (name) => (name === 'photos' ? failing(busy)(name) : everything)
    const { store: everything } = memoryStore()
    await everything.put('a', bytes)
    const { imageAt } = source([], { buckets, hosts })
    const now = { ...ask, waitMs: 10 }
    await expect(imageAt('s3://photos/a', now)).rejects.toMatchObject({
      code: 'image_unavailable',
      status: 503,
    })
    await expect(imageAt('s3://photos/a', now)).rejects.toThrow('left alone')
    expect(await imageAt('s3://others/a', now)).toEqual(bytes)
  })
})
