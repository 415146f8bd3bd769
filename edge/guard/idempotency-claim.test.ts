import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { TurbineError } from '../contract/errors.ts'
import { claimExpiryMs, claimKey, takeOverMs } from './idempotency-claim.ts'

function fakeClaims(store: ObjectStore = memoryStore().store) {
  const state = { now: 1_790_000_000_000, warnings: 0 }
  let ids = 0
  const deps = {
    store,
    now: () => state.now,
    newId: () => String(++ids),
    log: { warn: () => void state.warnings++, error: () => {} },
  }
  const claim = (fingerprint?: string) =>
    claimKey(deps, { key: 'idempotency/acme/1.json', fingerprint, makeId: () => `batch_${++ids}` })
  return { claim, deps, state }
}

const refusal = (error: unknown) => (error as TurbineError).code

test('of many requests at once one does the work, and all have its id', async () => {
  const { claim } = fakeClaims()
  const claims = await Promise.all(Array.from({ length: 10 }, () => claim('same')))
  expect(claims.filter(({ standing }) => standing === 'own')).toHaveLength(1)
  expect(claims.filter(({ standing }) => standing === 'running')).toHaveLength(9)
  expect(new Set(claims.map(({ id }) => id)).size).toBe(1)
})

test('after it was accepted nobody does the work again, for a day', async () => {
  const { claim, state } = fakeClaims()
  const first = await claim()
  await first.accepted()
  state.now += claimExpiryMs
  expect(await claim()).toMatchObject({ id: first.id, standing: 'accepted' })
  state.now += 1
  const next = await claim()
  expect(next.standing).toBe('own')
  expect(next.id).not.toBe(first.id)
})

test('what was claimed and never accepted is taken over under the same id, by one', async () => {
  const { claim, state } = fakeClaims()
  const dead = await claim()
  state.now += takeOverMs - 1
  expect((await claim()).standing).toBe('running')
  state.now += 1
  const claims = await Promise.all([claim(), claim(), claim()])
  expect(claims.map(({ standing }) => standing).sort()).toEqual(['own', 'running', 'running'])
  expect(claims[0]!.id).toBe(dead.id)
})

test('one who was taken over changes nothing any more', async () => {
  const { claim, state } = fakeClaims()
  const slow = await claim()
  state.now += takeOverMs
  const next = await claim()
  await slow.failed(new Error('too late'))
  expect((await claim()).standing).toBe('running')
  await next.accepted()
  expect((await claim()).standing).toBe('accepted')
})

test('the same key with another request is refused', async () => {
  const { claim } = fakeClaims()
  const first = await claim('one')
  expect(await claim('two').catch(refusal)).toBe('idempotency_key_reused')
  await first.accepted()
  expect(await claim('two').catch(refusal)).toBe('idempotency_key_reused')
})

test('what failed in the service is done at once by the next repeat of it', async () => {
  const { claim } = fakeClaims()
  const first = await claim('one')
  await first.failed(new StoreUnavailableError('no route'))
  expect(await claim('two').catch(refusal)).toBe('idempotency_key_reused')
  expect(await claim('one')).toMatchObject({ id: first.id, standing: 'own' })
})

test('what failed by its own fault can be corrected', async () => {
  const { claim } = fakeClaims()
  await (await claim('one')).failed(new TurbineError('wrong', { status: 400, code: 'invalid_value' }))
  expect((await claim('two')).standing).toBe('own')
})

test('what was accepted does not fail afterwards', async () => {
  const { claim } = fakeClaims()
  const first = await claim()
  await first.accepted()
  await first.failed(new Error('the answer was lost'))
  expect((await claim()).standing).toBe('accepted')
})

test('what was accepted does not fail afterwards, even if the store could not be told', async () => {
  const { claim, deps } = fakeClaims()
  const first = await claim()
  const { put } = deps.store
  deps.store.put = () => Promise.reject(new StoreUnavailableError('no route'))
  await first.accepted()
  deps.store.put = put
  await first.failed(new Error('the answer was lost'))
  expect((await claim()).standing).toBe('running')
})

test('a claim that was written although the store said otherwise is one’s own', async () => {
  const { store } = memoryStore()
  let lost = true
  const { claim } = fakeClaims({
    ...store,
    // As an SDK does that repeats a request whose answer was lost.
    async put(key, body, options) {
      if (lost) await store.put(key, body as string, options)
      lost = false
      return store.put(key, body, options)
    },
  })
  expect((await claim()).standing).toBe('own')
})

test('a key that others keep taking and giving back is in use', async () => {
  const { store } = memoryStore()
  const { claim, deps } = fakeClaims(store)
  await claim()
  deps.store = { ...store, get: async () => undefined }
  expect(await claim().catch(refusal)).toBe('idempotency_key_in_use')
})

test('a store that is away is no excuse to do the work twice, and no reason to fail what was done', async () => {
  const { claim, deps, state } = fakeClaims()
  const first = await claim()
  deps.store.put = () => Promise.reject(new StoreUnavailableError('no route'))
  await first.accepted()
  expect(state.warnings).toBe(1)
  await expect(claim()).rejects.toBeInstanceOf(StoreUnavailableError)
})
