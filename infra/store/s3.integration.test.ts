import { randomBytes, randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { createServer, request, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { ListMultipartUploadsCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, afterEach, beforeAll, describe, expect, inject, test } from 'vitest'
import { canStartS3, createBucket, type S3Server, startS3 } from '../../test/servers/s3.ts'
import { openS3, type S3, type S3Options } from './s3.ts'
import { DirectS3 } from './s3-direct.ts'
import { describeStore } from './store.contract.ts'
import { getBytes, PreconditionFailedError, StoreUnavailableError } from './store.ts'

const mebibyte = 1024 * 1024
const partBytes = 5 * mebibyte
const region = 'us-east-1'
const direct: S3Options['direct'] = (options) => new DirectS3(options)

describe.skipIf(!inject('s3'))('on a real server', () => {
  const access = inject('s3')!
  const opened: (S3 | Server)[] = []
  afterEach(() => {
    for (const each of opened.splice(0)) each.close()
  })

  const open = (options: Partial<S3Options> = {}) => {
    const s3 = openS3({ ...access, region, ...options })
    opened.push(s3)
    return s3
  }
  const newBucket = async () => {
    const name = `store-${randomUUID()}`
    await createBucket(access, name)
    return name
  }

  describeStore(
    'S3 store',
    async () => {
      const bucket = await newBucket()
      const s3 = open()
      return {
        store: s3.bucket(bucket),
        reopen: async () => open().bucket(bucket),
        dispose: async () => s3.close(),
      }
    },
    { keysArePaths: true, anySegments: true },
  )

  describeStore(
    'S3 store, whole objects without the SDK',
    async () => {
      const bucket = await newBucket()
      const s3 = open({ direct })
      return {
        store: s3.bucket(bucket),
        reopen: async () => open({ direct }).bucket(bucket),
        dispose: async () => s3.close(),
      }
    },
    { keysArePaths: true, anySegments: true },
  )

  // This server takes keys for paths, and has to agree with what was signed.
  test.each(['p//a.jpg', '/b.jpg', 'p/./c.jpg', 'p/../d.jpg', 'e f+g%2e.jpg', 'é?#&=.jpg'])(
    'reads the key %s as it was put',
    async (key) => {
      const bucket = await newBucket()
      for (const store of [open().bucket(bucket), open({ direct }).bucket(bucket)]) {
        await store.put(key, key)
        expect(Buffer.from((await getBytes(store, key))!).toString()).toBe(key)
      }
      expect(await open({ direct }).bucket(bucket).read!(key, { maxBytes: 100 })).toMatchObject({
        bytes: { length: Buffer.byteLength(key) },
      })
    },
  )

  test('a stream of several parts comes back as it was', async () => {
    const store = open({ partBytes }).bucket(await newBucket())
    const bytes = randomBytes(2 * partBytes + 12_345)
    const { etag } = await store.put('a', chunksOf(bytes, 700_001), { contentType: 'text/plain' })
    expect(Buffer.compare((await getBytes(store, 'a'))!, bytes)).toBe(0)
    const { body, ...object } = (await store.get('a', { start: partBytes - 1, end: partBytes }))!
    expect(Buffer.from(await new Response(body).arrayBuffer())).toEqual(
      bytes.subarray(partBytes - 1, partBytes + 1),
    )
    expect(object).toMatchObject({ etag, size: bytes.length, contentType: 'text/plain' })
  })

  test('a stream that breaks off in its third part leaves nothing, not even parts', async () => {
    const bucket = await newBucket()
    const store = open({ partBytes }).bucket(bucket)
    const bytes = randomBytes(2 * partBytes + 1000)
    await expect(store.put('a', chunksOf(bytes, mebibyte, new Error('the client has gone')))).rejects.toThrow(
      'the client has gone',
    )
    expect(await store.head('a')).toBeUndefined()
    const { endpoint, ...credentials } = access
    const client = new S3Client({ endpoint, region, credentials, forcePathStyle: true })
    const { Uploads } = await client.send(new ListMultipartUploadsCommand({ Bucket: bucket }))
    client.destroy()
    expect(Uploads ?? []).toEqual([])
  })

  test('of two streams of several parts with ifNoneMatch exactly one succeeds', async () => {
    const store = open({ partBytes }).bucket(await newBucket())
    const bodies = [randomBytes(partBytes + 1), randomBytes(partBytes + 1)]
    const results = await Promise.allSettled(
      bodies.map((bytes) => store.put('a', chunksOf(bytes, mebibyte), { ifNoneMatch: '*' })),
    )
    const won = results.findIndex(({ status }) => status === 'fulfilled')
    expect(results[1 - won]).toHaveProperty('reason', expect.any(PreconditionFailedError))
    expect(Buffer.compare((await getBytes(store, 'a'))!, bodies[won]!)).toBe(0)
  })

  test.each([
    ['bytes', () => new Uint8Array(10)],
    ['a stream of several parts', () => chunksOf(randomBytes(partBytes + 1), mebibyte)],
  ])('%s with ifNoneMatch succeed though the answer was lost', async (_, body) => {
    const bucket = await newBucket()
    const proxy = await losingAnswer(access.endpoint, ({ method, url }) =>
      method === 'POST' ? url.includes('uploadId=') : method === 'PUT' && !url.includes('partNumber='),
    )
    opened.push(proxy.server)
    const store = open({ endpoint: proxy.endpoint, partBytes }).bucket(bucket)
    const { etag } = await store.put('a', body(), { ifNoneMatch: '*' })
    expect(proxy.lost()).toBe(1)
    expect((await store.head('a'))!.etag).toBe(etag)
    await expect(store.put('a', 'other', { ifNoneMatch: '*' })).rejects.toThrow(PreconditionFailedError)
  })

  test.each([{ secretAccessKey: 'wrong' }, { accessKeyId: 'unknown' }])(
    'wrong credentials are named: %j',
    async (wrong) => {
      const bucket = await newBucket()
      const store = open(wrong).bucket(bucket)
      for (const work of [() => store.put('a', 'x'), () => store.get('a'), () => store.head('a')]) {
        await expect(work()).rejects.toThrow(StoreUnavailableError)
        await expect(work()).rejects.toThrow('Check AWS_ACCESS_KEY_ID')
      }
    },
  )

  test('a missing bucket is named', async () => {
    const store = open({ partBytes }).bucket('there-is-no-such-bucket')
    const works = [
      () => store.put('a', 'x'),
      () => store.put('a', chunksOf(randomBytes(partBytes + 1), mebibyte)),
      () => store.put('a', 'x', { ifMatch: '"1"' }),
      () => store.get('a'),
      () => store.head('a'),
      () => store.delete('a'),
      () => store.list(''),
    ]
    for (const work of works) {
      const failure = work()
      await expect(failure).rejects.toThrow(StoreUnavailableError)
      await expect(failure).rejects.toThrow('has no bucket "there-is-no-such-bucket"')
    }
  })
})

describe.skipIf(!inject('s3') || !canStartS3())('a server that goes away', () => {
  let server: S3Server
  beforeAll(async () => {
    server = await startS3()
  })
  afterAll(() => server.dispose())

  test('the store is unavailable meanwhile, and works again afterwards', async () => {
    await server.createBucket('bucket')
    const s3 = openS3({ ...server, region, partBytes })
    const store = s3.bucket('bucket')
    await store.put('a', 'kept')
    await server.stop()
    const works = [
      () => store.put('b', 'x'),
      () => store.put('b', chunksOf(randomBytes(partBytes + 1), mebibyte)),
      () => store.get('a'),
      () => store.head('a'),
      () => store.list(''),
      () => store.delete('a'),
    ]
    const results = await Promise.allSettled(works.map((work) => work()))
    for (const result of results) {
      expect(result).toHaveProperty('reason', expect.any(StoreUnavailableError))
      expect(result).toHaveProperty(
        'reason.message',
        expect.stringContaining('cannot be reached (ECONNREFUSED)'),
      )
    }
    await server.start()
    expect(new TextDecoder().decode(await getBytes(store, 'a'))).toBe('kept')
    await store.put('b', 'new')
    expect((await store.list('')).objects.map(({ key }) => key)).toEqual(['a', 'b'])
    s3.close()
  })
})

/** `bytes` in chunks; with an error, a stream that breaks off behind them. */
function chunksOf(bytes: Uint8Array, size: number, error?: Error): ReadableStream<Uint8Array> {
  let position = 0
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      if (position < bytes.length) controller.enqueue(bytes.subarray(position, position + size))
      else if (error) controller.error(error)
      else controller.close()
      position += size
    },
  })
}

/** A proxy that loses the server's first answer to such a request. */
async function losingAnswer(to: string, matches: (request: { method: string; url: string }) => boolean) {
  let lost = 0
  const server = createServer((incoming, outgoing) => {
    const { method = '', url = '', headers } = incoming
    const forwarded = request(`${to}${url}`, { method, headers }, (answer) => {
      if (lost === 0 && matches({ method, url })) {
        lost++
        answer.resume().once('end', () => incoming.socket.destroy())
      } else answer.pipe(outgoing.writeHead(answer.statusCode!, answer.headers))
    })
    incoming.pipe(forwarded)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  return { server, endpoint: `http://127.0.0.1:${(server.address() as AddressInfo).port}`, lost: () => lost }
}
