import { randomBytes } from 'node:crypto'
import fc from 'fast-check'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { putOnce } from './json.ts'
import { InvalidKeyError } from './key.ts'
import { InvalidRangeError } from './range.ts'
import { getBytes, getJson, type ObjectStore, PreconditionFailedError } from './store.ts'

/** One store under test, empty at first. */
export interface StoreUnderTest {
  store: ObjectStore
  /** Opens the store again on the same data, as a restart does. */
  reopen(): Promise<ObjectStore>
  /** Closes the store and removes its data. */
  dispose(): Promise<void>
}

export interface StoreLimits {
  /** The server keeps objects as files under their keys: no segments above 255 bytes, and no `a` beside `a/b`. */
  keysArePaths?: boolean
  /** Segments of keys may be empty, `.` and `..`. */
  anySegments?: boolean
}

/** What every ObjectStore promises, as far as the server behind it can hold it. */
export function describeStore(
  name: string,
  makeStore: () => Promise<StoreUnderTest>,
  { keysArePaths = false, anySegments = false }: StoreLimits = {},
): void {
  describe(name, () => {
    let tested: StoreUnderTest
    let store: ObjectStore

    beforeEach(async () => {
      tested = await makeStore()
      store = tested.store
    })
    afterEach(() => tested.dispose())

    const putAll = (keys: string[]) => Promise.all(keys.map((key) => store.put(key, key)))
    const textOf = async (key: string) => new TextDecoder().decode(await getBytes(store, key))

    test('gives back bytes, text and streams as they were put', async () => {
      const bytes = randomBytes(300_000)
      await store.put('bytes', bytes, { contentType: 'image/png' })
      await store.put('text', 'un café 🐟')
      await store.put('stream', chunksOf(bytes, 70_001))
      await store.put('empty', new Uint8Array(0))
      expect(Buffer.compare((await getBytes(store, 'bytes'))!, bytes)).toBe(0)
      expect(await textOf('text')).toBe('un café 🐟')
      expect(Buffer.compare((await getBytes(store, 'stream'))!, bytes)).toBe(0)
      expect(await getBytes(store, 'empty')).toEqual(new Uint8Array(0))
    })

    test('says what an object is', async () => {
      const { etag } = await store.put('a', 'hello', { contentType: 'text/plain; charset=utf-8' })
      const { body, contentType, ...info } = (await store.get('a'))!
      await body.cancel()
      expect(contentType).toBe('text/plain; charset=utf-8')
      expect(info).toMatchObject({ key: 'a', size: 5, etag })
      expect(Math.abs(info.lastModified - Date.now())).toBeLessThan(60_000)
      expect(await store.head('a')).toEqual(info)
      expect((await store.list('')).objects).toEqual([info])
    })

    test('an object of no stated type is a stream of octets', async () => {
      await store.put('a', 'x')
      const object = await store.get('a')
      expect(object!.contentType).toBe('application/octet-stream')
    })

    test('answers undefined for what is not there', async () => {
      await store.put('a/b', 'x')
      for (const key of ['b', 'a', 'a/b/c']) {
        expect(await store.get(key)).toBeUndefined()
        expect(await store.head(key)).toBeUndefined()
        expect(await getJson(store, key)).toBeUndefined()
      }
    })

    test('replaces an object, and its etag', async () => {
      const first = await store.put('a', 'one')
      const second = await store.put('a', 'two')
      expect(second.etag).not.toBe(first.etag)
      expect(await textOf('a')).toBe('two')
    })

    test('keeps its objects over a restart', async () => {
      const { etag } = await store.put('a/b', '{"n":1}')
      store = await tested.reopen()
      expect(await getJson(store, 'a/b')).toEqual({ n: 1 })
      expect((await store.head('a/b'))!.etag).toBe(etag)
    })

    test('reads ranges, both ends included', async () => {
      const bytes = randomBytes(200_000)
      await store.put('a', bytes)
      const ranges = [
        { start: 0, end: 0 },
        { start: 5, end: 9 },
        { start: 10, end: 150_000 },
        { start: 199_990 },
      ]
      for (const range of [...ranges, { start: 199_999, end: 500_000 }]) {
        const object = (await store.get('a', range))!
        expect(object.size).toBe(200_000)
        const expected = bytes.subarray(range.start, (range.end ?? 1e9) + 1)
        expect(Buffer.compare(await bytesOf(object.body), expected)).toBe(0)
      }
      await expect(store.get('a', { start: 200_000 })).rejects.toThrow(InvalidRangeError)
    })

    test('a reader sees the object as it was when it was opened', async () => {
      const bytes = randomBytes(2_000_000)
      await store.put('a', bytes)
      const { body } = (await store.get('a'))!
      await store.put('a', 'other')
      await store.delete('a')
      expect(Buffer.compare(await bytesOf(body), bytes)).toBe(0)
    })

    test('a body that breaks off writes nothing', async () => {
      await store.put('a', 'old')
      const broken = new ReadableStream<Uint8Array>({
        start: (controller) => controller.enqueue(randomBytes(100)),
        pull: (controller) => controller.error(new Error('the client has gone')),
      })
      await expect(store.put('a', broken)).rejects.toThrow('the client has gone')
      expect(await textOf('a')).toBe('old')
    })

    test('of several puts with ifNoneMatch exactly one succeeds', async () => {
      const puts = [1, 2, 3, 4, 5].map((n) => store.put('a', `body ${n}`, { ifNoneMatch: '*' }))
      const results = await Promise.allSettled(puts)
      const won = results.findIndex(({ status }) => status === 'fulfilled')
      const lost = results.filter((result) => result.status === 'rejected')
      expect(lost).toHaveLength(4)
      for (const { reason } of lost) expect(reason).toBeInstanceOf(PreconditionFailedError)
      expect(await textOf('a')).toBe(`body ${won + 1}`)
    })

    test('of several that put an object once all get the one that is kept', async () => {
      const kept = await Promise.all([1, 2, 3, 4, 5].map((n) => putOnce(store, 'a', { n })))
      expect(new Set(kept.map(({ n }) => n)).size).toBe(1)
      expect(await getJson(store, 'a')).toEqual(kept[0])
    })

    test('ifMatch writes only over the etag that it names', async () => {
      await expect(store.put('a', 'x', { ifMatch: 'unknown' })).rejects.toThrow(PreconditionFailedError)
      const { etag } = await store.put('a', 'one')
      const puts = ['two', 'three', 'four'].map((text) => store.put('a', text, { ifMatch: etag }))
      const results = await Promise.allSettled(puts)
      expect(results.filter(({ status }) => status === 'fulfilled')).toHaveLength(1)
      await expect(store.put('a', 'five', { ifMatch: etag })).rejects.toThrow(PreconditionFailedError)
      expect(await textOf('a')).not.toBe('one')
    })

    test('deletes, also what is not there', async () => {
      await putAll(['a/b/c', 'a/d'])
      await store.delete('a/b/c')
      await store.delete('a/b/c')
      await store.delete('a')
      expect(await keysOf(store, '')).toEqual(['a/d'])
      await store.put('a/b/c', 'again')
      expect(await textOf('a/b/c')).toBe('again')
    })

    test('puts and deletes beside each other do not disturb', async () => {
      const work = Array.from({ length: 40 }, async (_, i) => {
        await store.put(`a/b/c/${i}`, String(i))
        if (i % 2 === 0) await store.delete(`a/b/c/${i}`)
      })
      await Promise.all(work)
      expect(await keysOf(store, 'a/')).toHaveLength(20)
    })

    test('takes any legal key, and no other', async () => {
      const keys = [
        'a b',
        'A',
        'a',
        '%41',
        '.hidden',
        'a..b',
        'con',
        '日本/🐟',
        'tab\t',
        'quote"\'`',
        'a\\b',
        'a:*?<>|',
      ]
      if (keysArePaths) keys.push(Array(8).fill('é'.repeat(63)).join('/'))
      else keys.push('é'.repeat(512), 'x'.repeat(1024), `${'y'.repeat(300)}/${'z'.repeat(300)}`)
      await putAll(keys)
      for (const key of keys) expect(await textOf(key)).toBe(key)
      expect(await keysOf(store, '')).toEqual([...keys].sort(byBytes))
      const odd = ['..', 'a/../../b', '/etc/passwd', 'a//b', 'a/', './a']
      for (const key of ['', 'x'.repeat(1025), ...(anySegments ? [] : odd)]) {
        await expect(store.put(key, 'x')).rejects.toThrow(InvalidKeyError)
        await expect(store.get(key)).rejects.toThrow(InvalidKeyError)
        await expect(store.delete(key)).rejects.toThrow(InvalidKeyError)
      }
    })

    test('lists below a prefix, in the order of bytes', async () => {
      const above = keysArePaths ? [] : ['a/b']
      const keys = ['a-b', ...above, 'a/b/c', 'a/bc', 'a0', 'b/a', '\uffee', '🐟']
      await putAll(keysArePaths ? keys : ['a', ...keys])
      expect(await keysOf(store, '')).toEqual(keysArePaths ? keys : ['a', ...keys])
      expect(await keysOf(store, 'a/')).toEqual([...above, 'a/b/c', 'a/bc'])
      expect(await keysOf(store, 'a/b')).toEqual([...above, 'a/b/c', 'a/bc'])
      expect(await keysOf(store, 'a/b/')).toEqual(['a/b/c'])
      expect(await keysOf(store, '../')).toEqual([])
      expect(await keysOf(store, 'nothing')).toEqual([])
    })

    test('lists page by page', async () => {
      const keys = Array.from({ length: 25 }, (_, i) => `p/${i % 3}/${String(i).padStart(2, '0')}`).sort()
      await putAll([...keys, 'o', 'q'])
      const listed: string[] = []
      const sizes: number[] = []
      let continuation: string | undefined
      do {
        const page = await store.list('p/', { limit: 10, continuation })
        listed.push(...page.objects.map(({ key }) => key))
        sizes.push(page.objects.length)
        continuation = page.continuation
      } while (continuation)
      expect(listed).toEqual(keys)
      expect(sizes).toEqual([10, 10, 5])
      expect(await keysOf(store, 'p/', { startAfter: keys[20] })).toEqual(keys.slice(21))
      expect((await store.list('p/', { limit: 25 })).continuation).toBeUndefined()
    })

    test('lists any keys below any prefix after any key as sorting and filtering would', async () => {
      const letter = fc.constantFrom('a', '/', '!', '0', 'B', 'é')
      const segment = fc.string({ unit: letter, maxLength: 3 }).map((text) => 'a'.repeat(79) + text)
      const key = fc.oneof(segment, fc.string({ unit: letter, minLength: 1, maxLength: 4 }))
      const keys = fc.array(key, { minLength: 10, maxLength: 30 })
      const legal = (text: string) => text.split('/').every((part) => !['', '.', '..'].includes(part))
      const sample = fc.sample(keys, { numRuns: 1, seed: 7 })[0]!
      const stored = [...new Set(sample.filter(legal))].sort(byBytes)
      await putAll(stored)
      const prefixes = ['', 'a', 'a/', 'a!', 'a'.repeat(79), 'a'.repeat(80), `${'a'.repeat(80)}/`]
      for (const prefix of prefixes) {
        for (const startAfter of ['', ...sample]) {
          const expected = stored.filter((text) => text.startsWith(prefix) && byBytes(text, startAfter) > 0)
          expect(await keysOf(store, prefix, { startAfter })).toEqual(expected)
        }
      }
    })
  })
}

const byBytes = (a: string, b: string) => Buffer.compare(Buffer.from(a), Buffer.from(b))

async function keysOf(store: ObjectStore, prefix: string, options = {}): Promise<string[]> {
  return (await store.list(prefix, options)).objects.map(({ key }) => key)
}

async function bytesOf(body: ReadableStream<Uint8Array>): Promise<Buffer> {
  return Buffer.from(await new Response(body).arrayBuffer())
}

function chunksOf(bytes: Uint8Array, size: number): ReadableStream<Uint8Array> {
  let position = 0
  return new ReadableStream<Uint8Array>({
    pull(controller) {
      if (position >= bytes.byteLength) return controller.close()
      controller.enqueue(bytes.subarray(position, position + size))
      position += size
    },
  })
}
