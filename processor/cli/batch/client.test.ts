import { randomBytes } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { createServer, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { UsageError } from '../errors.ts'
import { FakeService } from '../service.fixture.ts'
import { Client } from './client.ts'
import {
  type ConnectionOptions,
  parseServiceUrl,
  ServiceError,
  UnreachableError,
} from './client-connection.ts'
import { downloadFileContent } from './client-download.ts'
import { uploadFile } from './client-upload.ts'

let folder: string
let service: FakeService
let pauses: number[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-client-'))
  service = await new FakeService().start()
  pauses = []
})
afterEach(async () => {
  await service.stop()
  await rm(folder, { recursive: true })
})

const clientOf = (options: Partial<ConnectionOptions> = {}) =>
  new Client({ url: service.url, sleep: async (ms) => pauses.push(ms), ...options })

async function localFile(bytes: Buffer) {
  const path = join(folder, 'manifest.jsonl')
  await writeFile(path, bytes)
  return { path, filename: 'manifest.jsonl', bytes: bytes.length, idempotencyKey: 'key' }
}

test.each([
  ['http://localhost:8787/', 'http://localhost:8787'],
  ['https://a.example/turbine/v1/', 'https://a.example/turbine'],
])('%s is the service at %s', (text, url) => expect(parseServiceUrl(text)).toBe(url))

test.each(['', 'localhost:8787', 'ftp://a.example', 'https://key@a.example'])('%j is no address', (text) =>
  expect(() => parseServiceUrl(text)).toThrow(UsageError),
)

test('a large file goes in parts, several at a time, and is whole and in order', async () => {
  const bytes = randomBytes(10_500)
  const told: number[] = []
  const options = {
    ...(await localFile(bytes)),
    partBytes: 1000,
    onBytes: (count: number) => told.push(count),
  }
  const { id } = await uploadFile(clientOf(), options)
  expect(service.files.get(id)).toEqual({ filename: 'manifest.jsonl', bytes })
  expect(service.paths('POST')).toHaveLength(1 + 11 + 1)
  expect(told.at(-1)).toBe(10_500)
})

test('a part that fails is sent again, alone', async () => {
  let failures = 0
  service.intercept = ({ path }) =>
    path.endsWith('/parts') && failures++ === 2 ? new Response('', { status: 503 }) : undefined
  const bytes = randomBytes(5000)
  const { id } = await uploadFile(clientOf(), { ...(await localFile(bytes)), partBytes: 1000 })
  expect(service.files.get(id)?.bytes.equals(bytes)).toBe(true)
  expect(service.paths('POST').filter((path) => path.endsWith('/parts'))).toHaveLength(6)
})

test('an upload that cannot be finished is taken back', async () => {
  service.intercept = ({ path }) =>
    path.endsWith('/parts')
      ? Response.json({ error: { message: 'The store is full.', code: 'full' } }, { status: 400 })
      : undefined
  const options = { ...(await localFile(randomBytes(5000))), partBytes: 1000 }
  await expect(uploadFile(clientOf(), options)).rejects.toThrow('The store is full.')
  expect(service.cancelledUploads).toEqual(['upload_1'])
})

test('a file that becomes shorter on the way is not uploaded in half', async () => {
  const options = await localFile(randomBytes(5000))
  await truncate(options.path, 4000)
  await expect(uploadFile(clientOf(), options)).rejects.toThrow(/was truncated/)
  expect(service.files.size).toBe(0)
})

const busy = (retryAfter?: string) =>
  Response.json(
    { error: { message: 'Too many requests.', code: 'rate_limit_exceeded' } },
    { status: 429, headers: retryAfter === undefined ? {} : { 'retry-after': retryAfter } },
  )

test('a busy service is asked again after the pause that it names, else after growing ones', async () => {
  const answers = [busy('7'), busy(), busy()]
  service.intercept = () => answers.shift()
  expect(await clientOf().models()).toEqual(['turbine-starter'])
  expect(pauses).toEqual([7000, 200, 400])
})

test('patience ends, and the last answer is the error', async () => {
  service.intercept = () => busy('40')
  const error = await clientOf()
    .models()
    .catch((reason) => reason)
  expect(error).toBeInstanceOf(ServiceError)
  expect(error).toMatchObject({ status: 429, code: 'rate_limit_exceeded', retriable: true })
  expect(pauses).toEqual([40_000, 40_000])
})

test('an outage and its end are noted once each', async () => {
  const notes: string[] = []
  const answers = [busy(), busy(), undefined, undefined]
  service.intercept = () => answers.shift()
  const client = clientOf({ onNote: (text) => notes.push(text) })
  await client.models()
  await client.models()
  expect(notes).toEqual(['The service is unavailable: Too many requests. Retrying.', 'The service is back.'])
})

test('a request that is wrong is not sent again', async () => {
  await expect(clientOf().batch('batch_x')).rejects.toMatchObject({
    code: 'batch_not_found',
    retriable: false,
  })
  expect([service.requests.length, pauses]).toEqual([1, []])
})

test.each([
  [
    new Response('<html>', { status: 403 }),
    /responded 403 Forbidden, which is not a response of Turbine\. Check --url/,
  ],
  [new Response('<html>'), /responded 200 OK, which is not/],
  [Response.json({ hello: 'world' }), /responded 200 OK, which is not/],
  [
    new Response(null, { status: 308, headers: { location: 'https://b.example/' } }),
    /redirects to https:\/\/b/,
  ],
])('something else than the service is recognised', async (response, message) => {
  service.intercept = () => response
  await expect(clientOf().batch('batch_1')).rejects.toThrow(message)
})

test('a service that never answered is not waited for, one that did is', async () => {
  const client = clientOf()
  await client.models()
  await service.stop()
  await expect(clientOf().models()).rejects.toThrow(UnreachableError)
  expect(pauses).toEqual([])
  await expect(client.batch('batch_1', { maxWaitMs: 1000 })).rejects.toThrow(UnreachableError)
  expect(pauses).toEqual([100, 200, 400])
})

/** Serves `content`; the first connections get as many bytes as `breaks` names and are broken off by `cut`. */
async function serveBroken(content: Buffer, breaks: number[], { ranges = true } = {}) {
  const seen: (string | undefined)[] = []
  let open: ServerResponse | undefined
  const server = createServer((request, response) => {
    seen.push(request.headers.range)
    const from = ranges ? Number(/=(\d+)-/.exec(request.headers.range ?? '')?.[1] ?? 0) : 0
    response.writeHead(from > 0 ? 206 : 200, { 'content-length': content.length - from })
    const count = breaks.shift()
    if (count === undefined) return response.end(content.subarray(from))
    response.flushHeaders()
    if (count === 0) return response.destroy()
    open = response
    return response.write(content.subarray(from, from + count))
  })
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    seen,
    cut: () => open?.destroy(),
    close: () => new Promise((resolve) => server.close(resolve)),
  }
}

test.each([
  [true, [undefined, 'bytes=100000-', 'bytes=250000-']],
  [false, [undefined, 'bytes=100000-', 'bytes=150000-']],
])('a download that breaks off is taken up where it broke; ranges served: %j', async (ranges, asked) => {
  const content = randomBytes(300_000)
  const broken = await serveBroken(content, [100_000, 150_000], { ranges })
  const ends = asked.map((range) => Number(range?.match(/\d+/)?.[0]))
  const onBytes = (bytes: number) => {
    if (ends.includes(bytes)) broken.cut()
  }
  try {
    const path = join(folder, 'new', 'captions.jsonl')
    const bytes = await downloadFileContent(clientOf({ url: broken.url }), {
      fileId: 'file-1',
      path,
      onBytes,
    })
    expect([bytes, broken.seen]).toEqual([300_000, asked])
    expect((await readFile(path)).equals(content)).toBe(true)
    expect(await readdir(join(folder, 'new'))).toEqual(['captions.jsonl'])
  } finally {
    await broken.close()
  }
})

test('a download that brings nothing any more gives up and leaves nothing behind', async () => {
  const broken = await serveBroken(Buffer.from('captions'), Array(10).fill(0))
  try {
    const path = join(folder, 'captions.jsonl')
    const download = downloadFileContent(clientOf({ url: broken.url }), { fileId: 'file-1', path })
    await expect(download).rejects.toThrow(UnreachableError)
    expect([broken.seen.length, await readdir(folder)]).toEqual([5, []])
  } finally {
    await broken.close()
  }
})
