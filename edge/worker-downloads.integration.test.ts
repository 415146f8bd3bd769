import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openS3 } from '../infra/store/s3.ts'
import { eventually, type S3TestServer, startS3TestServer } from '../infra/store/s3-server.fixture.ts'
import { startWorker, type WorkerServer } from '../test/servers/worker.ts'
import { createKey } from './accounts/api-keys.ts'
import type { StoredFile } from './contract/file.ts'
import { keys } from './contract/keys.ts'

/** More than the sockets on the way, and workerd, hold. */
const bytes = 32 * 1024 * 1024
const stallMs = 2_000
const stored: StoredFile = {
  file: {
    id: 'file-a',
    object: 'file',
    bytes,
    created_at: 1_790_000_000,
    filename: 'a.jsonl',
    purpose: 'batch',
    status: 'processed',
  },
  slices: [{ key: 'content', start: 0, end: bytes }],
}

let s3: S3TestServer
let worker: WorkerServer
let key: string
beforeAll(async () => {
  s3 = await startS3TestServer()
  const client = openS3(s3.options)
  const store = client.own('bucket')
  ;({ key } = await createKey(store, { tenant: 'acme', now: Date.now() }))
  await store.put(keys.file('acme', 'file-a'), JSON.stringify(stored))
  s3.objects.set('content', Buffer.alloc(bytes, 'x'))
  client.close()
  worker = await startWorker({
    kafka: { brokers: '127.0.0.1:1' },
    s3: { endpoint: s3.options.endpoint!, accessKeyId: 'key', secretAccessKey: 'secret' },
    vars: {
      S3_BUCKET: 'bucket',
      TURBINE_REPLY_SECRET: 'a secret of the fleet',
      TURBINE_DOWNLOAD_STALL_MS: String(stallMs),
      TURBINE_MAX_TENANT_DOWNLOADS: '16',
    },
  })
})
afterAll(async () => {
  await worker?.dispose()
  await s3.close()
})

const allClosed = () => eventually(() => s3.openResponses() === 0)
const contentReads = () => s3.requests.filter((request) => request === 'GET content').length
const get = (init: RequestInit = {}) =>
  fetch(`${worker.url}/v1/files/file-a/content`, { ...init, headers: { authorization: `Bearer ${key}` } })

/** A caller who reads nothing yet. */
async function caller(): Promise<Socket> {
  const { hostname, port } = new URL(worker.url)
  const socket = connect(Number(port), hostname).pause()
  socket.on('error', () => {})
  await once(socket, 'connect')
  socket.write(`GET /v1/files/file-a/content HTTP/1.1\r\nhost: x\r\nauthorization: Bearer ${key}\r\n\r\n`)
  return socket
}

test('in workerd HEAD opens nothing', async () => {
  for (let n = 0; n < 20; n++) {
    const response = await get({ method: 'HEAD' })
    expect([response.status, response.headers.get('content-length')]).toEqual([200, String(bytes)])
  }
  expect(contentReads()).toBe(0)
  await allClosed()
})

test('in workerd callers who leave half way leave nothing open, and give their places back', async () => {
  for (let round = 0; round < 3; round++) {
    const sockets = await Promise.all(Array.from({ length: 10 }, () => caller()))
    await Promise.all(sockets.map((socket) => once(socket.resume(), 'data')))
    for (const socket of sockets) socket.destroy()
    await allClosed()
  }
  const response = await get()
  expect(response.status).toBe(200)
  expect((await response.arrayBuffer()).byteLength).toBe(bytes)
  await allClosed()
})

test('in workerd callers who read nothing are cut off', async () => {
  const sockets = await Promise.all(Array.from({ length: 10 }, () => caller()))
  await eventually(() => s3.openResponses() > 0)
  await allClosed()
  for (const socket of sockets) socket.destroy()
  expect((await get()).status).toBe(200)
})
