import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openS3, type S3, type S3Options } from './s3.ts'
import { eventually, type S3TestServer, startS3TestServer } from './s3-server.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from './store.ts'

/** More than the sockets on both sides can hold, so that an unread response stays open. */
const large = Buffer.alloc(16 * 1024 * 1024, 'x')

let server: S3TestServer
let opened: S3[] = []
beforeEach(async () => {
  server = await startS3TestServer()
  server.objects.set('large', large)
})
afterEach(async () => {
  for (const s3 of opened) s3.close()
  opened = []
  await server.close()
})

function open(options: Partial<S3Options> = {}): S3 {
  const s3 = openS3({ ...server.options, ...options })
  opened.push(s3)
  return s3
}

const allClosed = () => eventually(() => server.openResponses() === 0)

describe('a read that is given up holds no connection', () => {
  const reason = new Error('The caller has left.')
  const waysOut: [string, (store: ObjectStore) => Promise<unknown>][] = [
    ['cancelled unread', async (store) => (await store.get('large'))!.body.cancel()],
    [
      'cancelled half way',
      async (store) => {
        const reader = (await store.get('large'))!.body.getReader()
        await reader.read()
        await reader.cancel()
      },
    ],
    [
      'left by a loop',
      async (store) => {
        for await (const _ of (await store.get('large'))!.body) break
      },
    ],
    [
      'aborted while nobody reads',
      async (store) => {
        const leaving = new AbortController()
        const { body } = (await store.get('large', undefined, leaving))!
        leaving.abort(reason)
        await allClosed()
        await expect(new Response(body).text()).rejects.toBe(reason)
      },
    ],
    [
      'aborted while it waits for bytes',
      async (store) => {
        const leaving = new AbortController()
        server.intercept = (_, response) => {
          response.writeHead(200, {
            'content-length': 10,
            etag: '"1"',
            'last-modified': 'Fri, 27 Nov 2026 07:00:00 GMT',
          })
          response.write('x')
          return true
        }
        const reader = (await store.get('large', undefined, leaving))!.body.getReader()
        await reader.read()
        const read = reader.read()
        leaving.abort(reason)
        await expect(read).rejects.toBe(reason)
      },
    ],
    [
      'aborted before the response',
      async (store) => {
        const leaving = new AbortController()
        server.intercept = () => true
        const get = store.get('large', undefined, leaving)
        await eventually(() => server.openResponses() === 1)
        leaving.abort(reason)
        await expect(get).rejects.toBe(reason)
      },
    ],
    [
      'of a range, from a server that knows none',
      async (store) => {
        server.intercept = ({ headers }) => {
          delete headers.range
          return false
        }
        await expect(store.get('large', { start: 1 })).rejects.toThrow('does not read ranges')
      },
    ],
  ]
  test.each(waysOut)('%s', async (_, leave) => {
    await leave(open().bucket('bucket'))
    await allClosed()
  })
})

test('a response whose body stops is an outage, and holds no connection', async () => {
  server.intercept = (_, response) => {
    response.writeHead(200, { 'content-type': 'application/xml', 'content-length': 1000 })
    response.write('<ListBucketResult>')
    return true
  }
  const s3 = open({ attempts: 1, totalMs: 50 })
  await expect(s3.own('bucket').list('')).rejects.toThrow(StoreUnavailableError)
  await allClosed()
})

test('neither downloads nor reads for callers take the connections of the service', async () => {
  const { own, bucket, downloads } = open({ downloads: 3 })
  const unread = await Promise.all(
    [downloads, downloads, downloads, bucket, bucket].map((from) => from('bucket').get('large')),
  )
  const fourth = downloads('bucket').get('large')
  await own('bucket').put('a', 'x')
  expect(await own('bucket').head('a')).toMatchObject({ size: 1 })
  // The three that may read are all that do.
  expect(server.openResponses()).toBe(5)
  await unread[0]!.body.cancel()
  unread.push(await fourth)
  for (const object of unread) if (!object!.body.locked) await object!.body.cancel().catch(() => {})
  await allClosed()
})

test('large objects go up over the connections of the pool too', async () => {
  const own = open().own('bucket')
  const bytes = large.subarray(0, 3 * 1024 * 1024)
  for (const key of ['a', 'b', 'c']) await own.put(key, bytes)
  expect(server.connections()).toBe(1)
})

test('a part that fails ends the upload, and what is left of the body is not read', async () => {
  const partBytes = 5 * 1024 * 1024
  server.intercept = ({ url, method }, response) => {
    if (method !== 'PUT' || !url!.includes('partNumber=1&')) return false
    response.writeHead(400, { 'content-type': 'application/xml' }).end('<Error><Code>No</Code></Error>')
    return true
  }
  let chunks = 0
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      if (chunks++ < 40) controller.enqueue(large.subarray(0, partBytes))
      else controller.close()
    },
    cancel() {
      cancelled = true
    },
  })
  await expect(open({ partBytes }).own('bucket').put('a', body)).rejects.toThrow('400')
  expect(chunks).toBeLessThan(15)
  expect(cancelled).toBe(true)
  expect(server.uploads.size).toBe(0)
})

test('connections of a burst are ended once they are idle, and reads that take longer are not', async () => {
  const store = open({ idleMs: 20 }).bucket('bucket')
  await Promise.all(Array.from({ length: 10 }, (_, i) => store.put(`small-${i}`, 'x')))
  expect(server.connections()).toBe(10)
  const { body } = (await store.get('large'))!
  await eventually(() => server.openConnections() === 1)
  await new Promise((resolve) => setTimeout(resolve, 60))
  expect((await new Response(body).bytes()).length).toBe(large.length)
  await eventually(() => server.openConnections() === 0)
})
