import { expect, test } from 'vitest'
import { deleteAll, getVersioned, putJson, readAll, swapJson } from './json.ts'
import { memoryStore } from './memory.fixture.ts'
import { getJson, listPages, type ObjectStore, StoreUnavailableError } from './store.ts'

const asIs = { read: (value: unknown) => value, onDamaged: (error: Error) => expect.fail(error.message) }

/** A store that lists two objects at a time. */
function pagedStore(): ObjectStore {
  const { store } = memoryStore()
  return { ...store, list: (prefix, options) => store.list(prefix, { ...options, limit: 2 }) }
}

async function filled() {
  const store = pagedStore()
  for (const key of ['a/1', 'a/2', 'a/3', 'b/4']) await putJson(store, key, { key })
  return store
}

test('of two who swap the same version one is first', async () => {
  const { store } = memoryStore()
  const first = await swapJson(store, 'key', { n: 1 }, undefined)
  expect(await swapJson(store, 'key', { n: 2 }, undefined)).toBeUndefined()
  expect(await getVersioned(store, 'key')).toEqual({ value: { n: 1 }, etag: first })
  const second = await swapJson(store, 'key', { n: 3 }, first)
  expect(second).not.toBe(first)
  expect(await swapJson(store, 'key', { n: 4 }, first)).toBeUndefined()
  expect(await getJson(store, 'key')).toEqual({ n: 3 })
  expect((await store.get('key'))?.contentType).toBe('application/json')
})

test('a swap that cannot be made for another reason rejects', async () => {
  const away = new StoreUnavailableError('away')
  await expect(swapJson({ put: () => Promise.reject(away) }, 'key', {}, undefined)).rejects.toBe(away)
})

test('there is no version of what is not there', async () => {
  expect(await getVersioned(memoryStore().store, 'key')).toBeUndefined()
})

test('a listing goes on behind its first page, and begins where it is told to', async () => {
  const store = await filled()
  const keysOf = async (options?: { startAfter: string }) => {
    const pages: string[][] = []
    for await (const page of listPages(store, 'a/', options)) pages.push(page.map(({ key }) => key))
    return pages
  }
  expect(await keysOf()).toEqual([['a/1', 'a/2'], ['a/3']])
  expect(await keysOf({ startAfter: 'a/1' })).toEqual([['a/2', 'a/3']])
})

test('all objects below a prefix are read, or those that are wanted', async () => {
  const store = await filled()
  expect(await readAll(store, 'a/', asIs)).toEqual([{ key: 'a/1' }, { key: 'a/2' }, { key: 'a/3' }])
  const wanted = ({ key }: { key: string }) => key === 'a/3'
  expect(await readAll(store, 'a/', { ...asIs, wanted })).toEqual([{ key: 'a/3' }])
})

test('damaged objects are left out and reported', async () => {
  const store = await filled()
  await store.put('a/2', '{"key":')
  await store.put('a/4', '5')
  await store.put('a/5', new Uint8Array(33 * 2 ** 20))
  const damaged: string[] = []
  const read = (value: unknown) => {
    if (typeof value !== 'object') throw new TypeError('no object')
    return value
  }
  const all = await readAll(store, 'a/', { read, onDamaged: ({ message }) => damaged.push(message) })
  expect(all).toEqual([{ key: 'a/1' }, { key: 'a/3' }])
  expect(damaged.toSorted()).toEqual([
    'The object "a/2" is not JSON.',
    'The object "a/4" is not what it should be.',
    `The object "a/5" has ${33 * 2 ** 20} bytes, which cannot be.`,
  ])
})

test('an outage is none of an object', async () => {
  const away = new StoreUnavailableError('away')
  const store = { ...(await filled()), get: () => Promise.reject(away) }
  await expect(readAll(store, 'a/', asIs)).rejects.toBe(away)
})

test('objects are deleted, each once', async () => {
  const store = await filled()
  const deleted: string[] = []
  await deleteAll({ delete: async (key) => void deleted.push(key) }, ['a/1', 'b/4', 'a/1'])
  expect(deleted.toSorted()).toEqual(['a/1', 'b/4'])
  await deleteAll(store, ['a/1', 'a/2', 'a/3'])
  expect(await readAll(store, '', asIs)).toEqual([{ key: 'b/4' }])
})
