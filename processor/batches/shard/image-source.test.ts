import { expect, test } from 'vitest'
import type { Tenant } from '../../../edge/contract/tenant.ts'
import { ImageFetchError, imageFetchFaults } from '../../../infra/image-fetch-error.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import {
  type Buckets,
  BucketUnavailableError,
  type ObjectStore,
  StoreUnavailableError,
} from '../../../infra/store/store.ts'
import { createImageSource, type ImageAsk, type ImageSourceOptions } from './image-source.ts'

const tenant: Tenant = {
  id: 'acme',
  grants: [
    { uri: 's3://photos/acme/', access: 'read' },
    { uri: 's3://photos/results/', access: 'write' },
  ],
  limits: {},
}
const { signal } = new AbortController()
const ask: ImageAsk = { tenant, maxBytes: 10, signal }
const bytes = new TextEncoder().encode('pixels')

/** A source whose addresses answer in turn: an error is thrown, the rest is the image. */
function source({ answers = [], buckets }: { answers?: (Error | Uint8Array)[]; buckets?: Buckets } = {}) {
  const fetched: string[] = []
  const images: ImageSourceOptions['images'] = {
    async fetch(url) {
      fetched.push(url)
      const answer = answers[fetched.length - 1]!
      if (answer instanceof Error) throw answer
      return { bytes: answer, contentType: 'image/png' }
    },
  }
  return { imageAt: createImageSource({ images, buckets, retryPausesMs: [0, 0] }), fetched }
}

async function bucketsWith(objects: Record<string, Uint8Array>): Promise<Buckets> {
  const { store } = memoryStore()
  for (const [key, body] of Object.entries(objects)) await store.put(key, body)
  return (name) => (name === 'photos' ? store : memoryStore().store)
}

/** Buckets in which every read fails. */
const failing =
  (error: Error): Buckets =>
  () =>
    ({ get: () => Promise.reject(error) }) as Partial<ObjectStore> as ObjectStore

test('reads data, https and s3 addresses', async () => {
  const { imageAt } = source({ answers: [bytes], buckets: await bucketsWith({ 'acme/a.png': bytes }) })
  for (const url of ['data:image/png;base64,cGl4ZWxz', 'https://example.com/a.png', 's3://photos/acme/a.png'])
    expect(await imageAt(url, ask)).toEqual(bytes)
})

test('tries an address three times where that makes sense', async () => {
  const { unreachable, badStatus } = imageFetchFaults
  const recovering = source({ answers: [unreachable(new Error()), badStatus(503), bytes] })
  expect(await recovering.imageAt('https://example.com/', ask)).toEqual(bytes)
  const failing = source({ answers: [badStatus(503), badStatus(503), badStatus(500)] })
  const failure = failing.imageAt('https://example.com/', ask)
  await expect(failure).rejects.toThrow(ImageFetchError)
  await expect(failure).rejects.toMatchObject({ code: 'image_url_status', status: 500, retriable: true })
  expect(failing.fetched).toHaveLength(3)
})

test.each([
  [404, 'image_not_found'],
  [410, 'image_not_found'],
  [401, 'image_forbidden'],
  [403, 'image_forbidden'],
  [400, 'image_url_status'],
])('status %i is %s, and not tried again', async (status, code) => {
  const { imageAt, fetched } = source({ answers: [imageFetchFaults.badStatus(status)] })
  await expect(imageAt('https://example.com/', ask)).rejects.toMatchObject({ code, retriable: false })
  expect(fetched).toHaveLength(1)
})

test('what the fetcher refuses goes on as it is', async () => {
  const { imageAt, fetched } = source({ answers: [imageFetchFaults.refused()] })
  await expect(imageAt('https://10.0.0.1/', ask)).rejects.toMatchObject({ code: 'image_url_private' })
  expect(fetched).toHaveLength(1)
})

test.each([
  ['s3://photos/acme/none.png', 'image_not_found'],
  ['s3://photos/acme/large.png', 'image_url_too_large'],
  ['s3://photos/other/a.png', 's3_not_granted'],
  ['s3://photos/results/a.png', 's3_not_granted'],
  ['s3://photos/acme/../other/a.png', 's3_uri_invalid'],
  ['s3://photos/acme//a.png', 's3_uri_invalid'],
  ['s3://P/a', 's3_uri_invalid'],
  ['data:image/png,plain', 'image_url_invalid'],
  [`data:;base64,${Buffer.alloc(11).toString('base64')}`, 'image_url_too_large'],
])('%s is %s', async (url, code) => {
  const objects = { 'acme/large.png': new Uint8Array(11), 'other/a.png': bytes, 'results/a.png': bytes }
  const { imageAt } = source({ buckets: await bucketsWith(objects) })
  await expect(imageAt(url, ask)).rejects.toMatchObject({ code, retriable: false })
})

test('an address that is not granted reaches no bucket', async () => {
  let asked = 0
  const buckets: Buckets = () => {
    asked++
    return memoryStore().store
  }
  await expect(source({ buckets }).imageAt('s3://other/a.png', ask)).rejects.toThrow('--read s3://other/')
  expect(asked).toBe(0)
})

test('without S3 an s3 address says what to do', async () => {
  const failure = source().imageAt('s3://photos/acme/a.png', ask)
  await expect(failure).rejects.toMatchObject({ code: 's3_unavailable' })
  await expect(failure).rejects.toThrow('S3_ENDPOINT')
})

test.each([
  ['missing', 'image_not_found'],
  ['forbidden', 'image_forbidden'],
] as const)('a %s bucket is the line at fault', async (fault, code) => {
  const buckets = failing(new BucketUnavailableError(fault, 'No bucket "photos".', {}))
  await expect(source({ buckets }).imageAt('s3://photos/acme/a.png', ask)).rejects.toMatchObject({ code })
})

test('S3 being away is not the line at fault', async () => {
  const away = new StoreUnavailableError('S3 is away')
  await expect(source({ buckets: failing(away) }).imageAt('s3://photos/acme/a.png', ask)).rejects.toBe(away)
})

test('ends with the reason of the signal, also between two tries', async () => {
  const abort = new AbortController()
  const reason = new Error('shutting down')
  const images: ImageSourceOptions['images'] = {
    async fetch() {
      abort.abort(reason)
      throw imageFetchFaults.badStatus(503)
    },
  }
  const imageAt = createImageSource({ images, retryPausesMs: [60_000] })
  await expect(imageAt('https://example.com/', { ...ask, signal: abort.signal })).rejects.toBe(reason)
  await expect(imageAt('data:;base64,', { ...ask, signal: abort.signal })).rejects.toBe(reason)
})
