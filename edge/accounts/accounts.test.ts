import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { assertExposable, createAccounts } from './accounts.ts'
import { createKey, revokeKey } from './api-keys.ts'
import { changeTenant, setLimits } from './tenants.ts'

function fakeAccounts() {
  const { store } = memoryStore()
  const state = { now: 1_790_000_000_000, reads: 0, away: false }
  const counted: ObjectStore = {
    ...store,
    async get(key) {
      state.reads++
      if (state.away) throw new StoreUnavailableError('no route')
      return store.get(key)
    },
    async list(prefix, options) {
      state.reads++
      if (state.away) throw new StoreUnavailableError('no route')
      return store.list(prefix, options)
    },
  }
  const accounts = createAccounts({ store: counted, now: () => state.now })
  const newKey = async (tenant = 'acme') => createKey(store, { tenant, now: state.now })
  return { accounts, state, store, newKey }
}

test('a key leads to its tenant, with its limits, and is looked up once a minute', async () => {
  const { accounts, state, store, newKey } = fakeAccounts()
  const { key } = await newKey()
  await changeTenant(store, 'acme', (tenant) => setLimits(tenant, { inFlight: 2 }))
  for (let count = 0; count < 5; count++)
    expect(await accounts.tenantOfKey(key)).toEqual({ id: 'acme', grants: [], limits: { inFlight: 2 } })
  expect(state.reads).toBe(2)
})

test('a revoked key and changed limits hold after a minute', async () => {
  const { accounts, state, store, newKey } = fakeAccounts()
  const [gone, stays] = [await newKey(), await newKey()]
  for (const { key } of [gone, stays]) expect(await accounts.tenantOfKey(key)).toMatchObject({ limits: {} })
  await revokeKey(store, gone.stored.id)
  await changeTenant(store, 'acme', (tenant) => setLimits(tenant, { inFlight: 2 }))
  state.now += 60_000
  expect(await accounts.tenantOfKey(gone.key)).toBeUndefined()
  expect(await accounts.tenantOfKey(stays.key)).toMatchObject({ limits: { inFlight: 2 } })
})

test('a key that is nobody’s is looked up every five seconds, and text that is no key never', async () => {
  const { accounts, state } = fakeAccounts()
  const unknown = `sk-turbine-${'a'.repeat(43)}`
  for (let count = 0; count < 3; count++) expect(await accounts.tenantOfKey(unknown)).toBeUndefined()
  expect(await accounts.tenantOfKey('../tenants/acme')).toBeUndefined()
  expect(state.reads).toBe(1)
  state.now += 5_000
  await accounts.tenantOfKey(unknown)
  expect(state.reads).toBe(2)
})

test('a key is known once it was found to be valid, until it is revoked', async () => {
  const { accounts, state, store, newKey } = fakeAccounts()
  const { key, stored } = await newKey()
  expect(accounts.knows(key)).toBe(false)
  await accounts.tenantOfKey(key)
  expect(accounts.knows(key)).toBe(true)
  await revokeKey(store, stored.id)
  state.now += 60_000
  await accounts.tenantOfKey(key)
  expect(accounts.knows(key)).toBe(false)
})

test('wrong keys push no valid one out', async () => {
  const { accounts, state, newKey } = fakeAccounts()
  const { key } = await newKey()
  await accounts.tenantOfKey(key)
  const wrong = (index: number) => `sk-turbine-${String(index).padStart(43, '0')}`
  for (let index = 0; index < 10_001; index++) await accounts.tenantOfKey(wrong(index))
  expect(accounts.knows(key)).toBe(true)
  const { reads } = state
  await accounts.tenantOfKey(key)
  await accounts.tenantOfKey(wrong(10_000))
  expect(state.reads).toBe(reads)
  await accounts.tenantOfKey(wrong(0))
  expect(state.reads).toBe(reads + 1)
})

test('through an outage of the store known callers are known, others are for later', async () => {
  const { accounts, state, newKey } = fakeAccounts()
  const [known, other] = [await newKey(), await newKey()]
  await accounts.tenantOfKey(known.key)
  await accounts.configured()
  state.away = true
  state.now += 3_600_000
  expect(await accounts.tenantOfKey(known.key)).toMatchObject({ id: 'acme' })
  expect(await accounts.configured()).toBe(true)
  await expect(accounts.tenantOfKey(other.key)).rejects.toBeInstanceOf(StoreUnavailableError)
})

test('the first key is seen after ten seconds', async () => {
  const { accounts, state, newKey } = fakeAccounts()
  expect(await accounts.configured()).toBe(false)
  await newKey()
  state.now += 9_999
  expect(await accounts.configured()).toBe(false)
  state.now += 1
  expect(await accounts.configured()).toBe(true)
})

test('revoking the last key locks out, it does not open', async () => {
  const { accounts, state, store, newKey } = fakeAccounts()
  const { stored } = await newKey()
  expect(await accounts.configured()).toBe(true)
  await revokeKey(store, stored.id)
  state.now += 86_400_000
  expect(await accounts.configured()).toBe(true)
})

test('without keys a service listens on this machine only, and says what to do', async () => {
  const { accounts, state, newKey } = fakeAccounts()
  await assertExposable('127.0.0.1', accounts)
  await expect(assertExposable('0.0.0.0', accounts)).rejects.toMatchObject({
    code: 'keys_required',
    message: expect.stringMatching(
      /^Other machines can reach 0\.0\.0\.0.*npx turbine keys create --tenant NAME[^\n]*$/,
    ),
  })
  await newKey()
  state.now += 10_000
  await assertExposable('0.0.0.0', accounts)
})
