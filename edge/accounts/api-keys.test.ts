import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { anyKey, createKey, findKey, hashOfKey, listApiKeys, looksLikeKey, revokeKey } from './api-keys.ts'

const now = 1_790_000_000_500

test('of a key nothing is kept by which it could be used', async () => {
  const { store, objects } = memoryStore()
  const { key, stored } = await createKey(store, { tenant: 'acme', name: 'ci', now })
  expect(looksLikeKey(key)).toBe(true)
  const secret = key.slice('sk-turbine-'.length)
  expect(Buffer.from(secret, 'base64url')).toHaveLength(32)
  const kept = objects.keys().map((name) => `${name} ${new TextDecoder().decode(objects.get(name))}`)
  expect(kept).toHaveLength(1)
  expect(kept[0]).not.toContain(secret.slice(5))
  expect(await findKey(store, hashOfKey(key))).toEqual(stored)
  expect(stored).toEqual({
    id: expect.stringMatching(/^key_[\da-f]{16}$/),
    tenant: 'acme',
    name: 'ci',
    hint: key.slice(0, 15),
    created: 1_790_000_000,
  })
})

test('every key is another', async () => {
  const { store } = memoryStore()
  const made = await Promise.all(Array.from({ length: 20 }, () => createKey(store, { tenant: 'acme', now })))
  expect(new Set(made.map(({ key }) => key)).size).toBe(20)
})

test('keys are listed oldest first, over all pages of the store', async () => {
  const { store } = memoryStore()
  const paged = {
    ...store,
    list: (prefix: string, options = {}) => store.list(prefix, { ...options, limit: 2 }),
  }
  for (const [index, name] of ['a', 'b', 'c', 'd', 'e'].entries())
    await createKey(store, { tenant: 'acme', name, now: now + index * 1000 })
  expect((await listApiKeys(paged)).map(({ name }) => name)).toEqual(['a', 'b', 'c', 'd', 'e'])
})

test('a revoked key is gone, another stays', async () => {
  const { store } = memoryStore()
  const gone = await createKey(store, { tenant: 'acme', now })
  const stays = await createKey(store, { tenant: 'acme', now })
  expect(await revokeKey(store, gone.stored.id)).toEqual(gone.stored)
  expect(await findKey(store, hashOfKey(gone.key))).toBeUndefined()
  expect(await listApiKeys(store)).toEqual([stays.stored])
  expect(await revokeKey(store, gone.stored.id)).toBeUndefined()
  expect(await anyKey(store)).toBe(true)
})

test.each(['', 'key_', 'key_0', 'key_zzzzzzzzzzzzzzzz', 'key_0123456789abcdef'])(
  'nothing is revoked for "%s"',
  async (id) => {
    const { store, objects } = memoryStore()
    await createKey(store, { tenant: 'acme', now })
    expect(await revokeKey(store, id)).toBeUndefined()
    expect(objects.size).toBe(1)
  },
)

test.each(['sk-turbine-', 'sk-turbine-short', 'sk-other', 'anything'])('%s cannot be a key', (key) => {
  expect(looksLikeKey(key)).toBe(false)
})
