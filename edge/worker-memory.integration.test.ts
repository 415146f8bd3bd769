import { request } from 'node:http'
import { setTimeout } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest'
import { openS3 } from '../infra/store/s3.ts'
import { type S3TestServer, startS3TestServer } from '../infra/store/s3-server.fixture.ts'
import { type Heap, startWorker, type WorkerServer } from '../test/servers/worker.ts'
import { createKey } from './accounts/api-keys.ts'
import { pngHeader, starter } from './app.fixture.ts'
import { maxBodyBytes } from './contract/caption.ts'
import { keys } from './contract/keys.ts'

const MiB = 1024 * 1024
/** Cloudflare's limit for an isolate. */
const isolateBytes = 128 * MiB
const bucket = 'turbine'
/** Requests of each kind at a time. */
const attackers = 50

// Without Kafka: what arrives is read, checked and stored, and then refused with 503.
let s3: S3TestServer
let worker: WorkerServer
let heap: Heap
let apiKeys: { hostile: string; honest: string }
let peak = 0
let measuring = true
async function measure() {
  while (measuring) {
    peak = Math.max(peak, await heap.used())
    await setTimeout(10)
  }
}
beforeAll(async () => {
  s3 = await startS3TestServer()
  s3.objects.set(keys.model(starter.id), Buffer.from(JSON.stringify({ model: starter, seenAt: Date.now() })))
  const store = openS3(s3.options).own(bucket)
  const keyOf = async (tenant: string) => (await createKey(store, { tenant, now: Date.now() })).key
  apiKeys = { hostile: await keyOf('hostile'), honest: await keyOf('honest') }
  const { endpoint, accessKeyId, secretAccessKey } = s3.options
  worker = await startWorker({
    kafka: { brokers: '127.0.0.1:9' },
    s3: { endpoint: endpoint!, accessKeyId: accessKeyId!, secretAccessKey: secretAccessKey! },
    vars: { S3_BUCKET: bucket, TURBINE_REPLY_SECRET: 'a secret of the fleet' },
    inspect: true,
  })
  await ask(Buffer.from(pngHeader()), { key: apiKeys.honest })
  heap = await worker.openHeap()
  void measure()
})
afterAll(async () => {
  measuring = false
  await heap.used()
  heap.close()
  await worker.dispose()
  await s3.close()
})
beforeEach(() => {
  peak = 0
})

interface Sent {
  key?: string
  type?: string
  path?: string
  /** Keeps the last byte back. */
  stalls?: boolean
}

/** The status of the answer; of a connection that was closed meanwhile, its error. */
function ask(body: Uint8Array, sent: Sent = {}): Promise<number | string> {
  const { key = apiKeys.hostile, type = 'image/png', path = '/v1/captions?deadline_ms=1', stalls } = sent
  const answered = Promise.withResolvers<number | string>()
  const headers = { 'content-type': type, 'content-length': body.length, authorization: `Bearer ${key}` }
  const sending = request(`${worker.url}${path}`, { method: 'POST', headers }, (response) => {
    answered.resolve(response.statusCode!)
    response.resume()
    if (stalls) sending.destroy()
  })
  sending.on('error', (error: NodeJS.ErrnoException) => answered.resolve(error.code!))
  if (stalls) sending.write(body.subarray(0, -1))
  else sending.end(body)
  return answered.promise
}

const image = Buffer.alloc(maxBodyBytes - 1)
image.set(pngHeader())
const withItems = (start: string, item: string, end: string) => {
  const items = Math.floor((maxBodyBytes - 1 - start.length - end.length) / (item.length + 1))
  return Buffer.from(`${start}${Array(items).fill(item).join(',')}${end}`)
}
const dataUrl = Buffer.from(
  `{"image_url":"data:image/png;base64,${image.toString('base64', 0, (image.length / 4 - 30) * 3)}","turbine":{"deadline_ms":1}}`,
)

/** The whole image, in wrapped lines: a body of 29 MB. */
const wrapped = Buffer.from(
  JSON.stringify({
    image_url: `data:image/png;base64,${image.toString('base64').replace(/.{76}/g, '$&\r\n')}`,
    turbine: { deadline_ms: 1 },
  }),
)

test.each<[string, Uint8Array, Sent]>([
  ['images', image, {}],
  ['images in wrapped JSON', wrapped, { type: 'application/json', path: '/v1/captions' }],
  ['images in JSON', dataUrl, { type: 'application/json', path: '/v1/captions' }],
  [
    'JSON of many values',
    withItems('{"messages":[', '0', ']}'),
    { type: 'application/json', path: '/v1/chat/completions' },
  ],
  [
    'JSON of many objects',
    withItems('{"messages":[', '{}', ']}'),
    { type: 'application/json', path: '/v1/chat/completions' },
  ],
])('%s of 20 MB from everywhere keep an isolate within its memory', async (_, body, sent) => {
  const statuses = await Promise.all(Array.from({ length: attackers }, () => ask(body, sent)))
  expect(statuses).not.toContain(500)
  expect(peak).toBeGreaterThan(maxBodyBytes)
  expect(peak).toBeLessThan(isolateBytes)
})

test('bodies that stall leave room for the request of another tenant, and end', async () => {
  const stalled = Array.from({ length: attackers }, () => ask(image, { stalls: true }))
  await expect.poll(() => peak).toBeGreaterThan(maxBodyBytes)
  // Past the limits, up to Kafka.
  expect(await ask(Buffer.from(pngHeader()), { key: apiKeys.honest })).toBe(503)
  expect(new Set(await Promise.all(stalled))).toContain(408)
  expect(peak).toBeLessThan(isolateBytes)
})
