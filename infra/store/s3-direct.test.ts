import { S3Client } from '@aws-sdk/client-s3'
import { afterEach, expect, test } from 'vitest'
import { getVersioned, swapJson } from './json.ts'
import { addressOf, openS3, type S3 } from './s3.ts'
import { DirectS3 } from './s3-direct.ts'
import { type Intercept, type S3TestServer, startS3TestServer } from './s3-server.fixture.ts'
import { getBytes, getJson, type ObjectStore, PreconditionFailedError } from './store.ts'

const opened: (S3 | S3TestServer)[] = []
afterEach(async () => {
  for (const each of opened.splice(0)) await each.close()
})

async function open(intercept?: Intercept): Promise<{ server: S3TestServer; store: ObjectStore }> {
  const server = await startS3TestServer()
  server.objects.set('a', Buffer.from('{"a": 1}'))
  server.intercept = intercept
  const s3 = openS3({ ...server.options, direct: (options) => new DirectS3(options) })
  opened.push(s3, server)
  return { server, store: s3.bucket('bucket') }
}

/** Whether the SDK sent a request. */
const isBySdk = ({ headers }: { headers: Record<string, unknown> }) => 'amz-sdk-invocation-id' in headers

const noSuchKey = '<Error><Code>NoSuchKey</Code></Error>'
const { signal } = new AbortController()

test('whole objects go in and out with one request each, without the SDK', async () => {
  const sdk: unknown[] = []
  const { server, store } = await open((request) => {
    if (isBySdk(request)) sdk.push(request.url)
    return false
  })
  expect(Buffer.from((await getBytes(store, 'a'))!).toString()).toBe('{"a": 1}')
  expect(await getJson(store, 'a')).toEqual({ a: 1 })
  expect(await getVersioned(store, 'a')).toEqual({ value: { a: 1 }, etag: '"1"' })
  expect(await store.put('b/ü (1).json', 'text', { contentType: 'text/plain' })).toEqual({ etag: '"1"' })
  expect(server.objects.get('b/ü (1).json')!.toString()).toBe('text')
  expect(server.requests).toHaveLength(4)
  expect(sdk).toEqual([])
})

test('that there is no such object is said by its code alone', async () => {
  const answers = [noSuchKey, '<Error><Code>NoSuchBucket</Code></Error>']
  const { server, store } = await open((_, response) => {
    const body = answers[server.requests.length - 1] ?? noSuchKey
    response.writeHead(404, { 'content-length': body.length }).end(body)
    return true
  })
  expect(await store.read!('gone', { maxBytes: 100 })).toBe('none')
  expect(await store.read!('gone', { maxBytes: 100 })).toBeUndefined()
  expect(server.requests).toHaveLength(2)
})

test.each([
  ['fails', 503, {}],
  ['redirects', 301, { location: 'http://127.0.0.1:1/' }],
  ['is refused', 403, {}],
  ['is encoded', 200, { 'content-encoding': 'gzip', 'content-length': '8' }],
  ['has no length', 200, { 'transfer-encoding': 'chunked' }],
  ['is too large', 200, { 'content-length': '101' }],
])('what %s is left to the SDK, and then for a while all of its bucket', async (_, status, headers) => {
  const { server, store } = await open((request, response) => {
    if (isBySdk(request)) return false
    response.writeHead(status, headers as Record<string, string>).end('x')
    return true
  })
  for (let read = 0; read < 5; read++) expect(await store.read!('a', { maxBytes: 100 })).toBeUndefined()
  expect(server.requests).toHaveLength(3)
  expect(Buffer.from((await getBytes(store, 'a'))!).toString()).toBe('{"a": 1}')
})

test('a connection that breaks is left to the SDK, and what was stored nevertheless counts', async () => {
  let broken = 0
  const { server, store } = await open((request, response) => {
    if (request.method === 'PUT' && isBySdk(request)) {
      response.writeHead(412).end('<Error><Code>PreconditionFailed</Code></Error>')
      return true
    }
    if (request.method === 'HEAD') {
      response.writeHead(200, { etag: '"2"', 'x-amz-meta-put-id': putId }).end()
      return true
    }
    broken++
    putId = String(request.headers['x-amz-meta-put-id'])
    expect(request.headers['if-none-match']).toBe('*')
    request.socket.destroy()
    return true
  })
  let putId = ''
  expect(await store.put('b', 'x', { ifNoneMatch: '*' })).toEqual({ etag: '"2"' })
  expect([broken, server.requests]).toEqual([1, ['PUT b', 'PUT b', 'HEAD b']])
})

test('a condition that does not hold is what it was', async () => {
  const { store } = await open((request, response) => {
    if (request.method !== 'PUT') return false
    const body = '<Error><Code>PreconditionFailed</Code></Error>'
    response.writeHead(412, { 'content-length': body.length }).end(body)
    return true
  })
  await expect(store.put('a', 'x', { ifNoneMatch: '*' })).rejects.toBeInstanceOf(PreconditionFailedError)
  expect(await swapJson(store, 'a', {}, undefined)).toBeUndefined()
})

test('it waits for room before it takes the bytes, and ends with its signal', async () => {
  const { server, store } = await open()
  server.objects.set('large', Buffer.alloc(1_000_000))
  const granted = Promise.withResolvers<void>()
  const asked: number[] = []
  const room = async (bytes: number) => {
    asked.push(bytes)
    await granted.promise
  }
  let done = false
  const reading = store.read!('large', { maxBytes: 1e7, room, signal }).then((whole) => {
    done = true
    return whole
  })
  await expect.poll(() => asked).toEqual([1_000_000])
  expect(done).toBe(false)
  granted.resolve()
  expect(await reading).toMatchObject({ bytes: { length: 1_000_000 } })

  const leaving = new AbortController()
  const never = store.read!('large', {
    ...{ maxBytes: 1e7, signal: leaving.signal },
    room: () => new Promise(() => {}),
  })
  leaving.abort(new Error('gone'))
  await expect(never).rejects.toThrow('gone')
  const full = store.read!('large', { maxBytes: 1e7, room: () => Promise.reject(new Error('no room')) })
  await expect(full).rejects.toThrow('no room')
})

test('buckets are where the SDK finds them', async () => {
  const credentials = { accessKeyId: 'k', secretAccessKey: 's' }
  const at = async (options: { endpoint?: string; region: string }, bucket = 'photos') => {
    const client = new S3Client({
      credentials,
      ...options,
      ...(options.endpoint && { forcePathStyle: true }),
    })
    return (await addressOf(client, bucket))?.href.replace(/\/$/, '')
  }
  expect(await at({ region: 'eu-west-1' })).toBe('https://photos.s3.eu-west-1.amazonaws.com')
  expect(await at({ region: 'cn-north-1' })).toBe('https://photos.s3.cn-north-1.amazonaws.com.cn')
  expect(await at({ region: 'us-east-1' }, 'my.photos')).toBe('https://s3.us-east-1.amazonaws.com/my.photos')
  expect(await at({ region: 'us-east-1' }, 'fast--use1-az4--x-s3')).toBeUndefined()
  expect(await at({ region: 'us-east-1', endpoint: 'http://127.0.0.1:7070' })).toBe(
    'http://127.0.0.1:7070/photos',
  )
  expect(await at({ region: 'us-east-1', endpoint: 'http://127.0.0.1:7070/s3' })).toBe(
    'http://127.0.0.1:7070/s3/photos',
  )
})
