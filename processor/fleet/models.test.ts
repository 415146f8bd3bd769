import { expect, test } from 'vitest'
import { keys } from '../../edge/contract/keys.ts'
import type { ModelSummary, ServedModel } from '../../edge/contract/model.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { getJson, type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { announceModel } from './models.ts'

const model: ModelSummary = {
  id: 'org/blip',
  object: 'model',
  created: 0,
  owned_by: 'turbine',
  turbine: { image_size: 384, device: 'cpu', tokens_in: 577, prune_levels: [] },
}

/** An announcement whose turns come when `turn` is called. */
function start(put?: ObjectStore['put'], more: { ownTopics?: boolean } = {}) {
  const { store } = memoryStore()
  const warnings: unknown[] = []
  let now = 1000
  let wake = () => {}
  const announcement = announceModel({
    store: { put: put ?? store.put },
    model: () => model,
    throughput: () => 90,
    ...more,
    log: { warn: ({ err }: Record<string, unknown>) => void warnings.push(err) },
    everyMs: 20,
    sleep: (ms, signal) =>
      new Promise((resolve) => {
        wake = () => {
          now += ms
          resolve()
        }
        signal.addEventListener('abort', () => resolve())
      }),
    now: () => now,
  })
  const settle = () => new Promise((resolve) => setImmediate(resolve))
  return {
    announcement,
    warnings,
    settle,
    turn: () => {
      wake()
      return settle()
    },
    seen: () => getJson<ServedModel>(store, keys.model(model.id)),
  }
}

test('the model is announced at once and again and again, until it is closed', async () => {
  const { announcement, settle, turn, seen } = start()
  await settle()
  expect(await seen()).toEqual({ model, throughput: 90, seenAt: 1000 })
  await turn()
  expect(await seen()).toEqual({ model, throughput: 90, seenAt: 1020 })
  await announcement.close()
  await turn()
  expect(await seen()).toEqual({ model, throughput: 90, seenAt: 1020 })
})

test('where the jobs of a model go is announced with it', async () => {
  const { announcement, settle, seen } = start(undefined, { ownTopics: true })
  await settle()
  expect(await seen()).toMatchObject({ ownTopics: true })
  await announcement.close()
})

test('it goes on through an outage, which the log is told of once', async () => {
  const away = new StoreUnavailableError('away')
  let tries = 0
  const { announcement, settle, turn, warnings } = start(async () => {
    if (++tries <= 3) throw away
    return { etag: '' }
  })
  await settle()
  for (let i = 0; i < 5; i++) await turn()
  expect([tries, warnings]).toEqual([6, [away]])
  await announcement.close()
})
