import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { starter } from '../app.fixture.ts'
import { keys } from '../contract/keys.ts'
import { createServedModels } from './served-models.ts'

/** A fleet's store whose clock and health the test decides. */
function fleet() {
  const { store } = memoryStore()
  const state = { now: 1_790_000_000_000, away: false, lists: 0 }
  const guarded: ObjectStore = {
    ...store,
    list: async (...args) => {
      state.lists++
      if (state.away) throw new StoreUnavailableError('away')
      return store.list(...args)
    },
  }
  const warned: string[] = []
  const log = { warn: (_: object, message: string) => void warned.push(message) }
  return {
    state,
    store,
    warned,
    ...createServedModels({ store: guarded, now: () => state.now, log }),
    announce: (id: string, seenAt = state.now, more: { ownTopics?: boolean } = {}) =>
      store.put(
        keys.model(id),
        JSON.stringify({ model: { ...starter, id }, throughput: 1, seenAt, ...more }),
      ),
  }
}

const ids = (models: { id: string }[]) => models.map(({ id }) => id)

test('lists what is served, in the order of the ids', async () => {
  const { models, announce } = fleet()
  await announce('owner/b')
  await announce('a')
  expect(ids(await models())).toEqual(['a', 'owner/b'])
})

test('knows whose jobs are in topics of their own, while the store is away too', async () => {
  const { ownTopics, announce, state } = fleet()
  await announce('shared')
  await announce('old', state.now, { ownTopics: false })
  await announce('own', state.now, { ownTopics: true })
  const asked = () => Promise.all(['shared', 'old', 'own', 'unknown'].map(ownTopics))
  expect(await asked()).toEqual([false, false, true, false])
  state.away = true
  state.now += 60_000
  expect(await asked()).toEqual([false, false, true, false])
})

test('leaves out damaged announcements', async () => {
  const { models, announce, store, warned } = fleet()
  await announce('a')
  await store.put(keys.model('b'), '{"model":{"id":"b"}}')
  await store.put(keys.model('c'), '{"model":')
  expect(ids(await models())).toEqual(['a'])
  expect(warned).toHaveLength(2)
})

test('reads the list again only when it is old', async () => {
  const { models, announce, state } = fleet()
  await announce('a')
  await models()
  await announce('b')
  state.now += 9_999
  expect(ids(await models())).toEqual(['a'])
  expect(state.lists).toBe(1)
  state.now += 1
  expect(ids(await models())).toEqual(['a', 'b'])
})

test('keeps the list through an outage of the store, and fails where there never was one', async () => {
  const { models, announce, state } = fleet()
  await announce('a')
  state.away = true
  await expect(models()).rejects.toThrow(StoreUnavailableError)
  state.away = false
  await models()
  state.away = true
  state.now += 60_000
  expect(ids(await models())).toEqual(['a'])
})

const minuteMs = 60_000
const dayMs = 24 * 60 * minuteMs

test.each([
  [0, 'ready'],
  [2 * minuteMs, 'ready'],
  [4 * minuteMs, 'waiting'],
  [dayMs - 1, 'waiting'],
  [dayMs, 'stopped'],
  [400 * dayMs, 'stopped'],
])('a model that was announced %i ms ago is %s', async (age, state) => {
  const { models, announce, state: fleetState } = fleet()
  const seenAt = fleetState.now - age
  await announce('a', seenAt)
  const [model] = await models()
  expect(model!.turbine).toMatchObject({ state, last_seen_at: Math.floor(seenAt / 1000) })
})

test('models that stopped come last, the latest of them first', async () => {
  const { models, announce, state } = fleet()
  await announce('a', state.now - 3 * dayMs)
  await announce('b', state.now - 2 * dayMs)
  await announce('c', state.now - dayMs / 2)
  await announce('d')
  expect(ids(await models())).toEqual(['c', 'd', 'b', 'a'])
})
