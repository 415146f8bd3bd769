import { once } from 'node:events'
import { mkdtemp, readdir, readlink, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { FairBudget } from '../infra/fair-budget.ts'
import { openDirectoryStore } from '../infra/store/directory.ts'
import { openS3 } from '../infra/store/s3.ts'
import { eventually, startS3TestServer } from '../infra/store/s3-server.fixture.ts'
import type { ObjectStore } from '../infra/store/store.ts'
import { fakeEdge } from './app.fixture.ts'
import type { StoredFile } from './contract/file.ts'
import { keys } from './contract/keys.ts'
import { type NodeServer, serveNode } from './server.ts'

/** More than the sockets on the way can hold. */
const bytes = 16 * 1024 * 1024
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

interface Backend {
  store: ObjectStore
  reads: ObjectStore
  /** Responses of S3, or files, that are open. */
  open(): Promise<number>
  /** What is kept of bytes that were sent: keys of objects, uploads of S3, temporary files. */
  kept(): Promise<string[]>
  /** From now on reads of the content get no response; false where they always do. */
  hang(): boolean
  close(): Promise<void>
}

async function s3Backend(): Promise<Backend> {
  const server = await startS3TestServer()
  const s3 = openS3({ ...server.options, downloads: 300, partBytes: 5 * 1024 * 1024 })
  return {
    store: s3.own('bucket'),
    reads: s3.downloads('bucket'),
    open: async () => server.openResponses(),
    kept: async () => [...server.objects.keys(), ...server.uploads.keys()],
    hang() {
      server.intercept = ({ url }) => url!.includes('content')
      return true
    },
    async close() {
      s3.close()
      await server.close()
    },
  }
}

async function directoryBackend(): Promise<Backend> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-downloads-'))
  const store = await openDirectoryStore(folder)
  return {
    store,
    reads: store,
    open: async () => {
      const files = await readdir('/proc/self/fd')
      const paths = await Promise.all(files.map((name) => readlink(`/proc/self/fd/${name}`).catch(() => '')))
      return paths.filter((path) => path.startsWith(folder)).length
    },
    kept: async () => {
      const entries = await readdir(folder, { recursive: true, withFileTypes: true })
      return entries.filter((entry) => entry.isFile()).map(({ name }) => name)
    },
    hang: () => false,
    close: () => rm(folder, { recursive: true }),
  }
}

const backends: [string, () => Promise<Backend>][] = [['S3', s3Backend]]
if (process.platform === 'linux') backends.push(['a folder', directoryBackend])

describe.each(backends)('downloads from %s', (_, start) => {
  let backend: Backend
  let server: NodeServer
  let places: FairBudget
  let sockets: Socket[]

  const serve = async (stallMs = 60_000) => {
    const edge = fakeEdge({
      store: backend.store,
      downloads: { stores: { store: backend.reads }, places, stallMs },
    })
    server = await serveNode(edge.app, { host: '127.0.0.1', port: 0 })
    return edge
  }
  /** Sends a request over a connection of its own, and reads nothing. */
  const send = async (method = 'GET') => {
    const { hostname, port } = new URL(server.address)
    const socket = connect(Number(port), hostname).pause()
    sockets.push(socket)
    socket.on('error', () => {})
    await once(socket, 'connect')
    socket.write(`${method} /v1/files/file-a/content HTTP/1.1\r\nhost: localhost\r\n\r\n`)
    return socket
  }
  const isQuiet = async () => places.reserved === 0 && (await backend.open()) === 0

  beforeEach(async () => {
    backend = await start()
    places = new FairBudget({ size: 300 })
    sockets = []
    await backend.store.put(keys.file('default', 'file-a'), JSON.stringify(stored))
    await backend.store.put('content', new Uint8Array(bytes))
  })
  afterEach(async () => {
    for (const socket of sockets) socket.destroy()
    await server.close()
    await backend.close()
  })

  test('HEAD opens nothing', async () => {
    await serve()
    for (let n = 0; n < 30; n++) {
      const response = await fetch(`${server.address}/v1/files/file-a/content`, {
        method: 'HEAD',
        headers: { range: 'bytes=5-9' },
      })
      expect(response.status).toBe(200)
      expect(response.headers.get('content-length')).toBe(String(bytes))
    }
    expect(await isQuiet()).toBe(true)
  })

  test('200 callers who leave, at once and half way, leave nothing open', async () => {
    await serve()
    const atOnce = await Promise.all(Array.from({ length: 60 }, () => send()))
    for (const socket of atOnce) socket.destroy()
    const half = await Promise.all(Array.from({ length: 140 }, () => send()))
    for (const [n, socket] of half.entries()) {
      await once(socket.resume(), 'data')
      if (n % 2) socket.destroy()
      else socket.resetAndDestroy()
    }
    await eventually(isQuiet)
    const response = await fetch(`${server.address}/v1/files/file-a/content`)
    expect((await response.arrayBuffer()).byteLength).toBe(bytes)
    await eventually(isQuiet)
  })

  test('callers who leave before the store has answered leave nothing open', async () => {
    await serve()
    if (!backend.hang()) return
    await Promise.all(Array.from({ length: 20 }, () => send()))
    await eventually(async () => (await backend.open()) === 20)
    for (const socket of sockets) socket.destroy()
    await eventually(isQuiet)
  })

  test('callers who read nothing are cut off', async () => {
    const edge = await serve(200)
    await Promise.all(Array.from({ length: 20 }, () => send()))
    await eventually(() => places.reserved > 0)
    await eventually(isQuiet)
    // What was on the way is still there for them to read; then the connection ends.
    await Promise.all(sockets.map((socket) => socket.resume().closed || once(socket, 'close')))
    expect(edge.logged).toEqual([])
  })
})

describe.each(backends)('uploads to %s', (_, start) => {
  test.each(['/v1/files', '/v1/uploads/upload_1/parts'])(
    'a caller who leaves in the middle of %s leaves nothing',
    async (path) => {
      const backend = await start()
      const edge = fakeEdge({ store: backend.store })
      const upload = { id: 'upload_1', bytes: 20_000_000, status: 'pending', expires_at: 2e9 }
      await backend.store.put(keys.upload('default', 'upload_1'), JSON.stringify({ upload }))
      const before = await backend.kept()
      const server = await serveNode(edge.app, { host: '127.0.0.1', port: 0 })
      const { hostname, port } = new URL(server.address)
      const socket = connect(Number(port), hostname)
      const name = path === '/v1/files' ? 'file' : 'data'
      socket.write(
        `POST ${path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 20000000\r\n` +
          'content-type: multipart/form-data; boundary=b\r\n\r\n' +
          `--b\r\ncontent-disposition: form-data; name="${name}"; filename="a"\r\n\r\n`,
      )
      // Two parts of S3, and some.
      socket.write(Buffer.alloc(11 * 1024 * 1024, 'x'))
      await eventually(async () => (await backend.kept()).length > before.length)
      socket.destroy()
      await eventually(
        async () => (await backend.kept()).length === before.length && (await backend.open()) === 0,
      )
      expect(await backend.kept()).toEqual(before)
      await server.close()
      await backend.close()
    },
  )
})

test('a store that fails half way ends the connection, and its error is not in the content', async () => {
  const logged: unknown[] = []
  const printed = vi.spyOn(console, 'error')
  const content = new ReadableStream<Uint8Array>({
    start: (controller) => controller.enqueue(new Uint8Array(1000)),
    pull: (controller) => controller.error(new Error('S3 at http://10.0.0.1 cannot be reached')),
  })
  const { deps } = fakeEdge()
  const store: ObjectStore = {
    ...deps.store,
    get: async (key) => ({
      ...(await deps.store.get(key))!,
      ...(key === 'content' && { size: bytes, body: content }),
    }),
  }
  await deps.store.put('content', '')
  await deps.store.put(keys.file('default', 'file-a'), JSON.stringify(stored))
  const edge = fakeEdge({ store, log: { warn: (fields) => logged.push(fields), error: () => {} } })
  const server = await serveNode(edge.app, { host: '127.0.0.1', port: 0 })
  const { hostname, port } = new URL(server.address)
  const socket = connect(Number(port), hostname)
  socket.write('GET /v1/files/file-a/content HTTP/1.1\r\nhost: localhost\r\n\r\n')
  const answer = Buffer.concat(await socket.toArray().catch(() => []))
  expect(answer.toString()).not.toContain('10.0.0.1')
  expect(edge.deps.downloads.places.reserved).toBe(0)
  expect(logged).toHaveLength(1)
  expect(printed).not.toHaveBeenCalled()
  await server.close()
})
