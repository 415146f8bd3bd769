import { once } from 'node:events'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { InvalidKeyError } from './key.ts'
import { openS3, type S3, type S3Options } from './s3.ts'
import { S3RequestError, s3Answer } from './s3-errors.ts'
import { type S3TestServer, startS3TestServer } from './s3-server.fixture.ts'
import {
  BucketUnavailableError,
  getBytes,
  type ObjectStore,
  PreconditionFailedError,
  StoreUnavailableError,
} from './store.ts'

const opened: (Server | S3 | S3TestServer)[] = []
afterEach(async () => {
  for (const each of opened.splice(0)) {
    if ('closeAllConnections' in each) each.closeAllConnections()
    await each.close()
  }
})

type Handler = (request: IncomingMessage, response: ServerResponse) => void

interface FakeS3 {
  store: ObjectStore
  /** The requests that came, e.g. `PUT a`. */
  requests: string[]
}

/** A bucket on a server that answers as it is told, to say what a real one says only on a bad day. */
async function fakeS3(handle: Handler, options: Partial<S3Options> = {}): Promise<FakeS3> {
  const requests: string[] = []
  const server = createServer(async (request, response) => {
    await request.resume().toArray()
    requests.push(`${request.method} ${request.url!.split('?')[0]!.slice('/bucket/'.length)}`)
    handle(request, response)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const endpoint = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const s3 = openS3({ endpoint, region: 'us-east-1', accessKeyId: 'k', secretAccessKey: 's', ...options })
  opened.push(server, s3)
  return { store: s3.bucket('bucket'), requests }
}

const refuse = (response: ServerResponse, status: number, code: string) =>
  response
    .writeHead(status, { 'content-type': 'application/xml' })
    .end(`<Error><Code>${code}</Code><Message>no</Message></Error>`)

const isAboutObject = ({ url }: IncomingMessage) => url!.startsWith('/bucket/a')

const emptyList = '<ListBucketResult></ListBucketResult>'

const streamOf = (...chunks: string[]) => new Blob(chunks).stream()

test.each([
  [503, 'SlowDown', 'cannot serve now (503 SlowDown)'],
  [500, 'InternalError', 'cannot serve now (500 InternalError)'],
  [429, 'TooManyRequests', 'cannot serve now (429 TooManyRequests)'],
  [409, 'OperationAborted', 'cannot serve now (409 OperationAborted)'],
  [403, 'InvalidAccessKeyId', 'Check AWS_ACCESS_KEY_ID'],
  [403, 'SignatureDoesNotMatch', 'refuses access to the bucket "bucket" (SignatureDoesNotMatch)'],
  [403, 'AccessDenied', 'denies access to the bucket "bucket". Allow the key'],
  [400, 'ExpiredToken', 'Check AWS_ACCESS_KEY_ID'],
  [301, 'PermanentRedirect', 'does not serve the bucket "bucket" (PermanentRedirect)'],
  [400, 'AuthorizationHeaderMalformed', 'Check AWS_REGION'],
  [404, 'NoSuchBucket', 'has no bucket "bucket". Create it'],
])('%i %s is the store being unavailable: %s', async (status, code, message) => {
  const { store } = await fakeS3((_, response) => refuse(response, status, code), { attempts: 1 })
  const works = [store.put('a', 'x'), store.get('a'), store.list(''), store.delete('a')]
  for (const result of await Promise.allSettled(works)) {
    const { reason } = result as PromiseRejectedResult
    expect(reason).toBeInstanceOf(StoreUnavailableError)
    expect(reason).toHaveProperty('message', expect.stringContaining(message))
    expect(reason).toHaveProperty('cause', expect.any(Error))
  }
})

test.each([
  [404, 'NoSuchBucket', 'missing'],
  [301, 'PermanentRedirect', 'missing'],
  [400, 'AuthorizationHeaderMalformed', 'missing'],
  [403, 'AccessDenied', 'forbidden'],
])('%i %s is the fault of the bucket: %s', async (status, code, fault) => {
  const { store } = await fakeS3(
    // As S3 does: the answer to HEAD has no body, and so no code.
    (request, response) =>
      request.method === 'HEAD' ? response.writeHead(status).end() : refuse(response, status, code),
    { attempts: 1 },
  )
  const works = [store.put('a', 'x'), store.get('a'), store.head('a'), store.list(''), store.delete('a')]
  for (const result of await Promise.allSettled(works)) {
    const { reason } = result as PromiseRejectedResult
    expect(reason).toBeInstanceOf(BucketUnavailableError)
    expect(reason).toMatchObject({ fault })
  }
})

test.each(['InvalidAccessKeyId', 'SignatureDoesNotMatch'])(
  '%s is not the fault of the bucket',
  async (code) => {
    const { store } = await fakeS3(
      (request, response) =>
        request.method === 'HEAD' ? response.writeHead(403).end() : refuse(response, 403, code),
      { attempts: 1 },
    )
    for (const result of await Promise.allSettled([store.get('a'), store.head('a')]))
      expect(result).toMatchObject({ reason: expect.not.objectContaining({ fault: expect.anything() }) })
  },
)

test('an answer that is not from S3 is the store being unavailable', async () => {
  const { store } = await fakeS3((_, response) => response.writeHead(502).end('<html>Bad gateway'))
  await expect(store.get('a')).rejects.toThrow(StoreUnavailableError)
})

test('what S3 would refuse again is not retriable', async () => {
  const { store, requests } = await fakeS3((_, response) => refuse(response, 400, 'EntityTooLarge'))
  await expect(store.put('a', 'x')).rejects.toThrow(S3RequestError)
  await expect(store.put('a', 'x')).rejects.toMatchObject({ retriable: false })
  expect(requests).toHaveLength(2)
})

test.each([
  [403, 'InvalidObjectState'],
  [400, 'KMS.DisabledException'],
  [403, 'KMS.KMSInvalidStateException'],
])('%i %s is the fault of one object, however long one waits', async (status, code) => {
  const { store } = await fakeS3((_, response) => refuse(response, status, code))
  const failure = store.get('a').catch((error) => error)
  expect(await failure).toBeInstanceOf(S3RequestError)
  expect(s3Answer(await failure)).toBe(`${status} ${code}`)
})

test('an object without a date, a tag and a length is given out, and read to its end', async () => {
  const { store } = await fakeS3((_, response) => {
    response.writeHead(200, { 'content-type': 'image/png' }).write('pix')
    response.end('els')
  })
  const object = (await store.get('a'))!
  expect(object).toMatchObject({ etag: '', lastModified: 0 })
  expect(await new Response(object.body).text()).toBe('pixels')
})

test('the Content-Encoding that an object was stored with is told, and its bytes are as they are stored', async () => {
  const { store } = await fakeS3((_, response) =>
    response.writeHead(200, { 'content-encoding': 'gzip', 'content-length': '3' }).end('abc'),
  )
  const object = await store.get('a')
  expect(object).toMatchObject({ contentEncoding: 'gzip', size: 3 })
  expect(await new Response(object!.body).text()).toBe('abc')
})

test('a key that is too long for the server is an invalid key', async () => {
  const { store } = await fakeS3((_, response) => refuse(response, 400, 'KeyTooLongError'))
  await expect(store.put('a', 'x')).rejects.toThrow(InvalidKeyError)
})

test('a failure that passes is not seen', async () => {
  let failures = 1
  const { store } = await fakeS3((request, response) => {
    if (failures-- > 0) request.socket.destroy()
    else response.writeHead(200, { etag: '"1"' }).end()
  })
  expect(await store.put('a', 'x')).toEqual({ etag: '"1"' })
})

test('a server that does not answer is unavailable', async () => {
  const { store } = await fakeS3(() => {}, { requestMs: 50, attempts: 1 })
  await expect(store.head('a')).rejects.toThrow(StoreUnavailableError)
})

test('a server that is not there is unavailable, and the message says what to check', async () => {
  const s3 = openS3({
    endpoint: 'http://127.0.0.1:1',
    region: 'us-east-1',
    accessKeyId: 'k',
    secretAccessKey: 's',
  })
  opened.push(s3)
  const read = s3.bucket('bucket').get('a')
  await expect(read).rejects.toThrow(StoreUnavailableError)
  await expect(read).rejects.toThrow(
    'S3 at http://127.0.0.1:1 cannot be reached (ECONNREFUSED). Check S3_ENDPOINT',
  )
})

const objectHeaders = { etag: '"1"', 'last-modified': new Date(0).toUTCString() }

test.each([
  ['breaks off', (response: ServerResponse) => void response.destroy()],
  ['falls silent', () => {}],
])('a body that %s is the store being unavailable', async (_, then) => {
  const handle: Handler = (_, response) => {
    response.writeHead(200, { ...objectHeaders, 'content-length': '100' }).write('x', () => then(response))
  }
  const { store } = await fakeS3(handle, { stallMs: 100 })
  await expect(getBytes(store, 'a')).rejects.toThrow(StoreUnavailableError)
})

test('a 404 that is not about the object does not make it missing', async () => {
  const { store } = await fakeS3((_, response) => refuse(response, 404, 'XAdminUserNotFound'))
  await expect(store.get('a')).rejects.toThrow('Check AWS_ACCESS_KEY_ID')
  await expect(store.put('a', 'x', { ifMatch: '"1"' })).rejects.toThrow('Check AWS_ACCESS_KEY_ID')
  await expect(store.delete('a')).rejects.toThrow('Check AWS_ACCESS_KEY_ID')
})

test.each(['url', ''])('reads the keys of a listing in the encoding %j', async (encoding) => {
  const key = encoding ? 'a+b%2B%25%E6%97%A5%01' : 'a b+%25日'
  const { store } = await fakeS3((_, response) => {
    const object = `<Key>${key}</Key><Size>1</Size><ETag>"1"</ETag><LastModified>2026-01-01T00:00:00.123Z</LastModified>`
    const type = `<EncodingType>${encoding}</EncodingType>`
    response.end(`<ListBucketResult>${type}<Contents>${object}</Contents></ListBucketResult>`)
  })
  expect((await store.list('')).objects).toEqual([
    { key: encoding ? 'a b+%日\u0001' : key, size: 1, etag: '"1"', lastModified: Date.UTC(2026) },
  ])
})

test('a server that ignores the range is not taken for one that reads it', async () => {
  const { store } = await fakeS3((_, response) => response.writeHead(200, objectHeaders).end('everything'))
  await expect(store.get('a', { start: 2, end: 3 })).rejects.toThrow('does not read ranges')
})

test('a missing bucket is told from a missing object, and asked for once', async () => {
  let bucketIsThere = false
  const { store, requests } = await fakeS3((request, response) => {
    if (isAboutObject(request)) response.writeHead(404).end()
    else if (bucketIsThere) response.end(emptyList)
    else refuse(response, 404, 'NoSuchBucket')
  })
  await expect(store.head('a')).rejects.toThrow('has no bucket "bucket"')
  bucketIsThere = true
  expect(await store.head('a')).toBeUndefined()
  expect(await store.head('a')).toBeUndefined()
  expect(requests).toEqual(['HEAD a', 'GET ', 'HEAD a', 'GET ', 'HEAD a'])
})

/** Takes the first put and loses the answer; then it refuses puts, because there is an object. */
function losesAnswer({ refusal }: { refusal: [number, string] }): Handler {
  let putId: string | undefined
  return (request, response) => {
    if (request.method === 'HEAD')
      return response.writeHead(200, { ...objectHeaders, 'x-amz-meta-put-id': putId }).end()
    if (putId) return refuse(response, ...refusal)
    putId = request.headers['x-amz-meta-put-id'] as string
    request.socket.destroy()
  }
}

test('a conditional put whose answer was lost has succeeded', async () => {
  const { store, requests } = await fakeS3(losesAnswer({ refusal: [412, 'PreconditionFailed'] }))
  expect(await store.put('a', 'x', { ifNoneMatch: '*' })).toEqual({ etag: '"1"' })
  expect(requests).toEqual(['PUT a', 'PUT a', 'HEAD a'])
  await expect(store.put('a', 'x', { ifNoneMatch: '*' })).rejects.toThrow(PreconditionFailedError)
})

test('bytes that meet another writer are put again', async () => {
  let conflicts = 2
  const { store, requests } = await fakeS3((request, response) => {
    if (request.method === 'HEAD') response.writeHead(404).end()
    else if (request.method === 'GET') response.end(emptyList)
    else if (conflicts-- > 0) refuse(response, 409, 'ConditionalRequestConflict')
    else response.writeHead(200, { etag: '"2"' }).end()
  })
  expect(await store.put('a', 'x', { ifNoneMatch: '*' })).toEqual({ etag: '"2"' })
  expect(requests.filter((request) => request === 'PUT a')).toHaveLength(3)
})

test('a stream that meets another writer is retriable by whoever can make it again', async () => {
  const { store } = await fakeS3((request, response) => {
    if (request.method === 'HEAD') response.writeHead(404).end()
    else if (request.method === 'GET') response.end(emptyList)
    else refuse(response, 409, 'ConditionalRequestConflict')
  })
  await expect(store.put('a', streamOf('x'), { ifNoneMatch: '*' })).rejects.toThrow(StoreUnavailableError)
})

test('bytes and streams that lose against another writer are refused', async () => {
  let puts = 0
  const { store } = await fakeS3((request, response) => {
    if (request.method === 'HEAD') response.writeHead(puts === 0 ? 404 : 200, objectHeaders).end()
    else if (request.method === 'GET') response.end(emptyList)
    else if (++puts) refuse(response, 409, 'ConditionalRequestConflict')
  })
  await expect(store.put('a', streamOf('x'), { ifNoneMatch: '*' })).rejects.toThrow(PreconditionFailedError)
  await expect(store.put('a', 'x', { ifMatch: '"0"' })).rejects.toThrow(PreconditionFailedError)
  expect(puts).toBe(2)
})

test('a stream that is refused is not sent, and told so', async () => {
  const { store, requests } = await fakeS3((_, response) => response.writeHead(200, objectHeaders).end())
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    cancel: () => {
      cancelled = true
    },
  })
  await expect(store.put('a', body, { ifNoneMatch: '*' })).rejects.toThrow(PreconditionFailedError)
  expect(cancelled).toBe(true)
  expect(requests).toEqual(['HEAD a'])
})

test.each([
  'p//a.jpg',
  '/a.jpg',
  '//',
  'p/',
  'p/./a.jpg',
  'p/../a.jpg',
  '../a.jpg',
  'p/..',
  'a b+c.jpg',
  'a%20b%2F%2e%2e.jpg',
  'a?b#c&d=e.jpg',
  "a'()*!~;:@$,.jpg",
  'a\\b<&>".jpg',
  '日本/é/🐟.jpg',
  'a\u0001\n.jpg',
  ' a ',
])('a key that others have put is read as it is: %j', async (key) => {
  const server = await startS3TestServer()
  opened.push(server)
  const store = openS3(server.options).bucket('bucket')
  server.objects.set(key, Buffer.from('picture'))
  expect((await store.list('')).objects.map((object) => object.key)).toEqual([key])
  expect((await store.head(key))?.size).toBe(7)
  expect(Buffer.from((await getBytes(store, key))!).toString()).toBe('picture')
  expect(new Set(server.requests)).toEqual(new Set([`GET ?list`, `HEAD ${key}`, `GET ${key}`]))
})
