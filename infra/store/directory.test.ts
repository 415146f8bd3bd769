import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readdirSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readdir, readlink, rm, stat, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { setImmediate } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { openDirectoryStore } from './directory.ts'
import { describeStore } from './store.contract.ts'
import { getBytes, type ObjectStore, PreconditionFailedError, StoreUnavailableError } from './store.ts'

describeStore('directory store', async () => {
  const path = await mkdtemp(join(tmpdir(), 'turbine-store-'))
  return {
    store: await openDirectoryStore(path),
    reopen: () => openDirectoryStore(path),
    dispose: () => rm(path, { recursive: true }),
  }
})

let directory: string
let path: string

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'turbine-store-'))
  path = join(directory, 'data', 'store')
})
afterEach(() => rm(directory, { recursive: true }))

test('everything put before the process was killed is whole, and nothing else remains', async () => {
  const fixture = fileURLToPath(new URL('./fixtures/put-forever.ts', import.meta.url))
  const child = spawn(process.execPath, [fixture, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  const put: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    put.push(line)
    if (put.length === 60) child.kill('SIGKILL')
  }
  await exit
  const store = await openDirectoryStore(path)
  const { objects } = await store.list('objects/')
  expect(objects.map(({ key }) => key)).toEqual(expect.arrayContaining(put.map((n) => `objects/${n}`)))
  for (const { key } of objects) {
    const text = new TextDecoder().decode(await getBytes(store, key))
    expect(text).toBe(key.slice('objects/'.length).repeat(5000))
  }
  expect(await readdir(join(path, 'incoming'))).toEqual([])
})

test('removes what a cut-off put left', async () => {
  await openDirectoryStore(path)
  await writeFile(join(path, 'incoming', 'half'), 'half an obj')
  await openDirectoryStore(path)
  expect(await readdir(join(path, 'incoming'))).toEqual([])
})

test('no temporary file stays after puts, refused and failed ones', async () => {
  const store = await openDirectoryStore(path)
  await store.put('a', 'one')
  const lost = store.put('a', 'two', { ifNoneMatch: '*' })
  await expect(lost).rejects.toThrow(PreconditionFailedError)
  const stale = store.put('a', 'two', { ifMatch: 'stale' })
  await expect(stale).rejects.toThrow(PreconditionFailedError)
  const broken = new ReadableStream<Uint8Array>({ pull: (controller) => controller.error(new Error('gone')) })
  await expect(store.put('a', broken)).rejects.toThrow('gone')
  expect(await readdir(join(path, 'incoming'))).toEqual([])
})

test('a refused put cancels the body unread', async () => {
  const store = await openDirectoryStore(path)
  await store.put('a', 'one')
  let cancelled = false
  const body = new ReadableStream<Uint8Array>({
    cancel: () => {
      cancelled = true
    },
  })
  await expect(store.put('a', body, { ifNoneMatch: '*' })).rejects.toThrow(PreconditionFailedError)
  expect(cancelled).toBe(true)
})

test('deleting the last object of a folder removes the folder', async () => {
  const store = await openDirectoryStore(path)
  await store.put('a/b/c', 'x')
  await store.delete('a/b/c')
  expect(await readdir(join(path, 'objects'))).toEqual([])
})

test('files that are not ours are left alone', async () => {
  const store = await openDirectoryStore(path)
  await store.put('a', 'x')
  await writeFile(join(path, 'objects', '.DS_Store'), 'finder')
  await writeFile(join(path, 'objects', 'README'), 'hand-made')
  expect((await store.list('')).objects.map(({ key }) => key)).toEqual(['a'])
})

test('ifNoneMatch holds against another writer of the same folder', async () => {
  const stores = [await openDirectoryStore(path), await openDirectoryStore(path)]
  const keys = Array.from({ length: 30 }, (_, i) => `key-${i}`)
  const puts = keys.flatMap((key) => stores.map((store) => store.put(key, 'x', { ifNoneMatch: '*' })))
  const results = await Promise.allSettled(puts)
  expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(keys.length)
})

test('a damaged file is named', async () => {
  const store = await openDirectoryStore(path)
  await store.put('a', 'a body of some length')
  await truncate(join(path, 'objects', 'a@'), 10)
  await expect(store.get('a')).rejects.toThrow(StoreUnavailableError)
  await expect(store.head('a')).rejects.toThrow('a@ is damaged')
})

test('a content type of any length comes back', async () => {
  const store = await openDirectoryStore(path)
  const contentType = `text/plain; note=${'x'.repeat(2000)}`
  await store.put('a', new Uint8Array(5000), { contentType })
  expect((await store.head('a'))!.size).toBe(5000)
  expect((await store.get('a'))!.contentType).toBe(contentType)
})

test('a path that cannot be a folder is refused', async () => {
  await writeFile(join(directory, 'data'), '')
  await expect(openDirectoryStore(path)).rejects.toThrow(StoreUnavailableError)
})

test('a guest leaves what another process is putting alone', async () => {
  const store = await openDirectoryStore(path)
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  const put = store.put('slow', readable)
  await writer.write(Buffer.from('half '))
  const guest = await openDirectoryStore(path, { guest: true })
  await guest.put('key', 'of a guest')
  await writer.write(Buffer.from('and half'))
  await writer.close()
  await put
  expect(Buffer.from((await getBytes(guest, 'slow'))!).toString()).toBe('half and half')
  expect(await getBytes(store, 'key')).toBeDefined()
})

describe.skipIf(process.platform === 'win32')('other users of the machine', () => {
  test('can read no file and no folder', async () => {
    const store = await openDirectoryStore(path)
    await store.put('a/b', 'x')
    await store.put('c', new Blob(['x']).stream())
    const names = await readdir(directory, { recursive: true })
    const modes = await Promise.all(
      names.map(async (name) => (await stat(join(directory, name))).mode & 0o777),
    )
    expect(names).toEqual(
      expect.arrayContaining(['data', 'data/store/objects/a/b@', 'data/store/objects/c@']),
    )
    expect(new Set(modes)).toEqual(new Set([0o700, 0o600]))
  })

  test('are locked out of a folder that was open to them', async () => {
    await mkdir(path, { recursive: true, mode: 0o755 })
    await chmod(path, 0o755)
    await openDirectoryStore(path)
    expect((await stat(path)).mode & 0o777).toBe(0o700)
  })
})

describe.skipIf(process.platform !== 'linux')('a read holds no file', () => {
  const openFiles = async () => {
    const links = await readdir('/proc/self/fd')
    const paths = await Promise.all(links.map((link) => readlink(`/proc/self/fd/${link}`).catch(() => '')))
    return paths.filter((file) => file.startsWith(directory)).length
  }
  const reason = new Error('The caller has left.')
  const waysOut: [string, (store: ObjectStore) => Promise<unknown>][] = [
    ['that was read', (store) => getBytes(store, 'large')],
    ['cancelled unread', async (store) => (await store.get('large'))!.body.cancel()],
    [
      'cancelled during a read',
      async (store) => {
        const reader = (await store.get('large'))!.body.getReader()
        const read = reader.read()
        await reader.cancel()
        await read
      },
    ],
    [
      'aborted while nobody reads',
      async (store) => {
        const leaving = new AbortController()
        const { body } = (await store.get('large', undefined, leaving))!
        leaving.abort(reason)
        await expect(new Response(body).text()).rejects.toBe(reason)
      },
    ],
    [
      'aborted before it begins',
      (store) =>
        expect(store.get('large', undefined, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason),
    ],
    ['of a wrong range', (store) => expect(store.get('large', { start: 1e9 })).rejects.toThrow()],
  ]
  test.each(waysOut)('%s', async (_, leave) => {
    const store = await openDirectoryStore(path)
    await store.put('large', new Uint8Array(2_000_000))
    await leave(store)
    expect(await openFiles()).toBe(0)
  })

  const work: [string, (store: ObjectStore) => Promise<unknown>[]][] = [
    ['reads', (store) => Array.from({ length: 3000 }, () => getBytes(store, '1'))],
    ['lists', (store) => Array.from({ length: 100 }, () => store.list(''))],
    ['puts', (store) => Array.from({ length: 600 }, (_, n) => store.put(`puts/${n}`, 'x'))],
  ]
  test.each(work)('and only so many are open at once, for %s', async (_, begin) => {
    const store = await openDirectoryStore(path)
    await Promise.all(Array.from({ length: 100 }, (_, n) => store.put(String(n), 'x')))
    const before = readdirSync('/proc/self/fd').length
    let most = 0
    let reading = true
    const watch = async () => {
      // Synchronously, since other calls wait in line behind those of the store.
      for (; reading; await setImmediate()) most = Math.max(most, readdirSync('/proc/self/fd').length)
    }
    const watching = watch()
    await Promise.all(begin(store))
    reading = false
    await watching
    expect(most - before).toBeLessThanOrEqual(300)
  })
})
