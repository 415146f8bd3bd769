import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { setTimeout } from 'node:timers/promises'
import * as zlib from 'node:zlib'
import { PutObjectCommand, S3Client } from '@aws-sdk/client-s3'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { openS3 } from '../infra/store/s3.ts'
import { getBytes, type ObjectStore } from '../infra/store/store.ts'
import { canStartKafka, type KafkaServer, startKafka } from '../test/servers/kafka.ts'
import { canStartS3, type S3Server, startS3 } from '../test/servers/s3.ts'
import { startWorker, type WorkerServer } from '../test/servers/worker.ts'
import { createKey } from './accounts/api-keys.ts'
import { addGrants, changeTenant } from './accounts/tenants.ts'
import { errorOf, pngHeader, starter } from './app.fixture.ts'
import type { Caption } from './contract/caption.ts'
import { type CaptionJob, maxInlineImageBytes } from './contract/job.ts'
import { keys } from './contract/keys.ts'
import { type CaptionPart, maxReplyAgeMs, type PartDelivery } from './contract/reply.ts'
import { createPartReplier, createReplier } from './fleet/replier.ts'
import { captionOf, startFakeProcessor } from './workers/fake-processor.fixture.ts'

const secret = 'a secret of the fleet'
/** Long enough for a slow machine; no answer takes it where all is well. */
const patientMs = 20_000

const dataUrl = `data:image/png;base64,${Buffer.from(pngHeader()).toString('base64')}`

/** An image of so many bytes. */
function imageOf(bytes: number): Uint8Array<ArrayBuffer> {
  const image = new Uint8Array(bytes)
  image.set(pngHeader())
  return image
}

// A broker of its own: this stops and starts it, and reads everything that is in its topics.
describe.skipIf(!canStartKafka() || !canStartS3())('the edge in workerd', () => {
  let kafka: KafkaServer
  let s3: S3Server
  let store: ObjectStore
  let worker: WorkerServer
  const closers: (() => unknown)[] = []
  const jobs: CaptionJob[] = []
  /** What the processor does with a job; the tests decide. */
  let onJob: (job: CaptionJob) => unknown

  const reply = createReplier({ secret })
  const finish = async (job: CaptionJob) => {
    const image = job.image instanceof Uint8Array ? job.image : await getBytes(store, job.image.key)
    return captionOf(job, image!.length)
  }
  const answer = async (job: CaptionJob) => reply(job.replyTo!, await finish(job))

  const start = async (bucket: string, vars: Record<string, string> = {}) => {
    await s3.createBucket(bucket)
    const bucketStore = openS3({ region: 'us-east-1', ...s3 }).bucket(bucket)
    const started = await startWorker({
      kafka,
      s3,
      vars: { S3_BUCKET: bucket, TURBINE_REPLY_SECRET: secret, ...vars },
    })
    closers.unshift(started.dispose)
    return { worker: started, store: bucketStore }
  }
  const announceModel = (to: ObjectStore) =>
    to.put(keys.model(starter.id), JSON.stringify({ model: starter, throughput: 1, seenAt: Date.now() }))
  const post = (bytes = 100, { query = `deadline_ms=${patientMs}`, headers = {} } = {}) =>
    fetch(`${worker.url}/v1/captions?${query}`, {
      method: 'POST',
      body: imageOf(bytes),
      headers: { 'content-type': 'image/png', ...headers },
    })

  beforeAll(async () => {
    ;[kafka, s3] = await Promise.all([startKafka(), startS3()])
    closers.push(kafka.dispose, s3.dispose)
    const processor = await startFakeProcessor({
      brokers: kafka.brokers,
      onJob: async (job) => {
        jobs.push(job)
        await onJob(job)
      },
    })
    closers.unshift(processor.close)
    ;({ worker, store } = await start('turbine'))
    await announceModel(store)
  })
  afterAll(async () => {
    for (const close of closers) await close()
  })
  beforeEach(() => {
    jobs.length = 0
    onJob = answer
  })

  test('a caption goes out as a record and comes back as a signed reply', async () => {
    const response = await post(100, { query: `deadline_ms=${patientMs}&max_prune=0.5&prompt=a%20photo` })
    expect(response.status).toBe(200)
    const caption = (await response.json()) as Caption
    expect(caption).toMatchObject({ status: 'completed', caption: 'an image of 100 bytes' })
    expect(jobs).toEqual([
      expect.objectContaining({ id: caption.id, tenant: 'default', model: 'starter', maxPrune: 0.5 }),
    ])
    expect(jobs[0]).toMatchObject({
      request: { beginning: 'a photo' },
      replyTo: `${worker.url}/internal/replies/${caption.id}`,
    })
    expect(new Uint8Array(jobs[0]!.image as Uint8Array)).toEqual(imageOf(100))
  })

  test('callers beside each other get their own', async () => {
    const sizes = Array.from({ length: 24 }, (_, index) => 1_000 + index)
    const captions = await Promise.all(sizes.map(async (size) => (await post(size)).json()))
    expect(captions).toEqual(
      sizes.map((size) => expect.objectContaining({ caption: `an image of ${size} bytes` })),
    )
  })

  test('a large image travels by its key', async () => {
    const size = maxInlineImageBytes + 1
    expect(await (await post(size)).json()).toMatchObject({ caption: `an image of ${size} bytes` })
    expect(jobs[0]!.image).toMatchObject({ key: expect.stringContaining('captions/default/') })
  })

  const replyPart = createPartReplier({ secret })
  const partOf = ({ id }: CaptionJob, from: number, text: string): CaptionPart => ({
    ...{ id, object: 'caption.part', created: 1_790_000_000 },
    texts: [{ index: 0, from, text }],
  })
  const stream = (signal?: AbortSignal) =>
    fetch(`${worker.url}/v1/chat/completions`, {
      method: 'POST',
      body: JSON.stringify({
        messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: dataUrl } }] }],
        stream: true,
        turbine: { deadline_ms: patientMs },
      }),
      headers: { 'content-type': 'application/json' },
      signal,
    })

  test('parts of a caption are streamed while it grows', async () => {
    const deliveries: PartDelivery[] = []
    const finished = Promise.withResolvers<void>()
    onJob = async (job) => {
      expect(job.streamed).toBe(true)
      for (const [from, text] of [
        [0, 'an '],
        [0, 'an '],
        [3, 'image'],
      ] as const)
        deliveries.push(await replyPart(job.replyTo!, partOf(job, from, text)))
      await finished.promise
      await answer(job)
    }
    const response = await stream()
    expect(response.headers.get('content-type')).toMatch('text/event-stream')
    let text = ''
    for await (const chunk of response.body!.pipeThrough(new TextDecoderStream())) {
      text += chunk
      // The caption is not there before its parts are.
      if (text.includes('"image"')) finished.resolve()
    }
    const events = text.split('\n\n').filter(Boolean)
    const contents = events.slice(0, -1).map((event) => JSON.parse(event.slice(6)).choices[0].delta.content)
    expect(contents).toEqual(['', 'an ', 'image', ' of 33 bytes', undefined])
    expect(events.at(-1)).toBe('data: [DONE]')
    expect(deliveries).toEqual(['taken', 'taken', 'taken'])
  })

  test('who has left a stream is told to the processor', async () => {
    const caller = new AbortController()
    const response = stream(caller.signal)
    const left = Promise.withResolvers<PartDelivery>()
    onJob = async (job) => {
      for (let from = 0; ; from++) {
        const delivery = await replyPart(job.replyTo!, partOf(job, from, 'a')).catch(() => undefined)
        if (delivery !== undefined && delivery !== 'taken') return left.resolve(delivery)
        await setTimeout(50)
      }
    }
    const reader = (await response).body!.getReader()
    expect((await reader.read()).done).toBe(false)
    caller.abort()
    expect(await left.promise).toBe('left')
  })

  test('forged and stale replies are refused, and the caller waits on for the genuine one', async () => {
    const refusals: unknown[] = []
    onJob = async (job) => {
      const caption = await finish(job)
      const foreign = createReplier({ secret: 'the secret of another' })
      const late = createReplier({ secret, now: () => Date.now() - maxReplyAgeMs - 60_000 })
      for (const replier of [foreign, late])
        await replier(job.replyTo!, { ...caption, id: job.id }).catch((error) => refusals.push(error))
      await answer(job)
    }
    expect((await post()).status).toBe(200)
    expect(refusals).toEqual([
      expect.objectContaining({ name: 'ReplyError', retriable: false }),
      expect.objectContaining({ name: 'ReplyError', retriable: false }),
    ])
  })

  test('past its deadline the answer is an address, and the result is there later', async () => {
    onJob = () => {}
    const response = await post(100, { query: 'deadline_ms=200' })
    expect(response.status).toBe(202)
    const { id } = (await response.json()) as Caption
    const address = `${worker.url}${response.headers.get('location')}`
    expect((await fetch(address)).status).toBe(202)
    await expect.poll(() => jobs.map((job) => job.id)).toContain(id)
    await store.put(keys.caption('default', id), JSON.stringify(await finish(jobs[0]!)))
    expect(await (await fetch(address)).json()).toMatchObject({ id, caption: 'an image of 100 bytes' })
    // Nobody waits for it any more; the processor is thanked all the same.
    await answer(jobs[0]!)
  })

  test('addresses inside of private networks are not fetched', async () => {
    const response = await fetch(`${worker.url}/v1/captions`, {
      method: 'POST',
      body: JSON.stringify({ image_url: 'https://127.0.0.1/secret.png' }),
      headers: { 'content-type': 'application/json' },
    })
    expect([response.status, (await errorOf(response)).code]).toEqual([400, 'image_url_private'])
  })

  test('a body may be compressed as the platform can undo it, and else is told how', async () => {
    const body = JSON.stringify({ image_url: 'https://127.0.0.1/secret.png' })
    const send = (encoding: string, bytes: Buffer) =>
      fetch(`${worker.url}/v1/captions`, {
        method: 'POST',
        body: new Uint8Array(bytes),
        headers: { 'content-type': 'application/json', 'content-encoding': encoding },
      })
    for (const [encoding, bytes] of [
      ['gzip', zlib.gzipSync(body)],
      ['deflate', zlib.deflateSync(body)],
      ['deflate', zlib.deflateRawSync(body)],
    ] as const) {
      const response = await send(encoding, bytes)
      expect([response.status, (await errorOf(response)).code]).toEqual([400, 'image_url_private'])
    }
    const damaged = await send('gzip', Buffer.from(body))
    expect([damaged.status, (await errorOf(damaged)).code]).toEqual([400, 'content_encoding_invalid'])
    const refused = await send('br', zlib.brotliCompressSync(body))
    expect([refused.status, refused.headers.get('accept-encoding')]).toEqual([415, 'gzip, deflate'])
  })

  test('other addresses are, where they redirect to as well', async () => {
    const server = createServer((request, response) => {
      if (request.url === '/old') response.writeHead(302, { location: '/new' }).end()
      else response.writeHead(200, { 'content-type': 'image/png' }).end(imageOf(321))
    }).listen(0, '127.0.0.1')
    closers.unshift(() => server.close())
    await once(server, 'listening')
    const { worker: open, store: openStore } = await start('open', { TURBINE_ALLOW_PRIVATE_URLS: 'on' })
    await announceModel(openStore)
    const { port } = server.address() as AddressInfo
    const response = await fetch(`${open.url}/v1/captions`, {
      method: 'POST',
      body: JSON.stringify({
        image_url: `http://127.0.0.1:${port}/old`,
        turbine: { deadline_ms: patientMs },
      }),
      headers: { 'content-type': 'application/json' },
    })
    expect(await response.json()).toMatchObject({ caption: 'an image of 321 bytes' })
  })

  test('it is ready when the store, Kafka and a model are there', async () => {
    const ready = await fetch(`${worker.url}/health/ready`)
    expect([ready.status, await ready.json()]).toMatchObject([200, { ready: true }])
    const { worker: empty } = await start('empty')
    const response = await fetch(`${empty.url}/health/ready`)
    expect([response.status, await response.json()]).toMatchObject([
      503,
      { checks: { store: { ok: true }, stream: { ok: true }, models: { ok: false } } },
    ])
  })

  test('keys and limits hold', async () => {
    const { worker: guarded, store: guardedStore } = await start('guarded')
    await announceModel(guardedStore)
    await changeTenant(guardedStore, 'acme', (tenant) => ({ ...tenant, limits: { requestsPerMinute: 2 } }))
    const { key } = await createKey(guardedStore, { tenant: 'acme', now: Date.now() })
    const ask = async (bearer: string) => {
      const response = await fetch(`${guarded.url}/v1/captions`, {
        method: 'POST',
        body: imageOf(100),
        headers: { 'content-type': 'image/png', authorization: `Bearer ${bearer}` },
      })
      return [response.status, response.headers.get('x-ratelimit-remaining-requests')]
    }
    expect(await ask('wrong')).toEqual([401, null])
    expect([await ask(key), await ask(key), await ask(key)]).toEqual([
      [200, '1'],
      [200, '0'],
      [429, '0'],
    ])
    expect(jobs.map(({ tenant }) => tenant)).toEqual(['acme', 'acme'])
  })

  test("a granted bucket that is not there is the caller's fault", async () => {
    const { worker: granted, store: grantedStore } = await start('granted')
    await announceModel(grantedStore)
    await s3.createBucket('photos')
    await openS3({ region: 'us-east-1', ...s3 })
      .bucket('photos')
      .put('a.png', imageOf(100))
    const grants = ['s3://photos/', 's3://there-is-no-such-bucket/'].map((uri) => ({
      uri,
      access: 'read' as const,
    }))
    await changeTenant(grantedStore, 'acme', (tenant) => addGrants(tenant, grants))
    const { key } = await createKey(grantedStore, { tenant: 'acme', now: Date.now() })
    const ask = (image_url: string) =>
      fetch(`${granted.url}/v1/captions`, {
        method: 'POST',
        body: JSON.stringify({ image_url, turbine: { deadline_ms: patientMs } }),
        headers: { 'content-type': 'application/json', authorization: `Bearer ${key}` },
      })
    expect(await (await ask('s3://photos/a.png')).json()).toMatchObject({ caption: 'an image of 100 bytes' })
    await new S3Client({
      ...{ endpoint: s3.endpoint, region: 'us-east-1', forcePathStyle: true },
      credentials: { accessKeyId: s3.accessKeyId, secretAccessKey: s3.secretAccessKey },
    }).send(
      new PutObjectCommand({
        ...{ Bucket: 'photos', Key: 'packed.png', ContentEncoding: 'gzip' },
        Body: zlib.gzipSync(imageOf(345)),
      }),
    )
    expect(await (await ask('s3://photos/packed.png')).json()).toMatchObject({
      caption: 'an image of 345 bytes',
    })
    const refused = await ask('s3://there-is-no-such-bucket/a.png')
    expect([refused.status, refused.headers.get('retry-after')]).toEqual([400, null])
    expect(await errorOf(refused)).toMatchObject({ code: 'image_not_found', param: 'image_url' })
  })

  test('settings that are missing are named in the log, not to callers', async () => {
    const { worker: broken } = await start('broken', { TURBINE_REPLY_SECRET: '' })
    const response = await fetch(`${broken.url}/v1/models`)
    expect([response.status, (await errorOf(response)).code]).toEqual([503, 'misconfigured'])
  })

  test('while Kafka is away nothing is accepted, and what comes in time for its return is done', async () => {
    await kafka.stop()
    const refused = await post(100, { query: 'deadline_ms=100' })
    expect([refused.status, (await errorOf(refused)).code]).toEqual([503, 'stream_unavailable'])
    expect(Number(refused.headers.get('retry-after'))).toBeGreaterThan(0)
    const patient = post(500)
    await kafka.start()
    const { id, status } = (await (await patient).json()) as Caption
    // The processor may be back later than a caller is held: the job waits for it all the same.
    expect(['completed', 'queued']).toContain(status)
    await expect.poll(() => jobs.map((job) => job.id), { timeout: 60_000 }).toContain(id)
    expect(await (await post(600)).json()).toMatchObject({ caption: 'an image of 600 bytes' })
  })
})
