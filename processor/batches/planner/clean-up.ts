import { keys } from '../../../edge/contract/keys.ts'
import { deleteAll } from '../../../infra/store/json.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { listShards } from '../shard/results.ts'
import type { BatchRef } from './lease.ts'

/**
 * Deletes objects that only an open batch needs. The cancel mark stays: processors skip shards still in the stream by
 * it. The marker of the open batch goes last, so that an interrupted clean-up is repeated.
 */
export async function cleanUpBatch(store: ObjectStore, ref: BatchRef): Promise<void> {
  const { tenant, batch } = ref
  const { batchManifest, batchPlan, batchSkipped, batchSurvival } = keys
  const unneeded = [batchManifest, batchPlan, batchSkipped, batchSurvival].map((key) => key(tenant, batch))
  for await (const shard of listShards(store, ref)) unneeded.push(keys.batchShard(tenant, batch, shard))
  await deleteAll(store, unneeded)
  await store.delete(keys.batchProgress(tenant, batch))
  await store.delete(keys.openBatch(tenant, batch))
}
