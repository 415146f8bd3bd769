import { setImmediate } from 'node:timers/promises'
import { expect, test } from 'vitest'
import { keys } from '../../../edge/contract/keys.ts'
import { memoryStore } from '../../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../../infra/store/store.ts'
import { cleanUpBatch } from './clean-up.ts'

const ref = { tenant: 'acme', batch: 'batch_1' }
const cancelMark = keys.batchCancel(ref.tenant, ref.batch)

async function putBatch(store: ObjectStore, shards: number) {
  for (let shard = 0; shard < shards; shard++)
    await store.put(keys.batchShard(ref.tenant, ref.batch, shard), 'results')
  for (const key of [
    keys.batchPlan,
    keys.batchManifest,
    keys.batchSkipped,
    keys.batchProgress,
    keys.openBatch,
  ])
    await store.put(key(ref.tenant, ref.batch), '{}')
  await store.put(cancelMark, '{}')
}

test('leaves the mark of a cancelled batch only', async () => {
  const { store, objects } = memoryStore()
  await putBatch(store, 20)
  await cleanUpBatch(store, ref)
  expect(objects.keys()).toEqual([cancelMark])
})

test('rejects, and keeps the marker of the open batch, when the store goes away between two pages', async () => {
  const { store, objects } = memoryStore()
  await putBatch(store, 20)
  const failing: ObjectStore = {
    ...store,
    list: async (prefix, options) => {
      await setImmediate()
      return store.list(prefix, { ...options, limit: 5 })
    },
    delete: async () => {
      throw new StoreUnavailableError('away')
    },
  }
  await expect(cleanUpBatch(failing, ref)).rejects.toThrow(StoreUnavailableError)
  expect(objects.has(keys.openBatch(ref.tenant, ref.batch))).toBe(true)
})
