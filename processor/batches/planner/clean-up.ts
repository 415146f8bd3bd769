import { keys } from '../../../edge/contract/keys.ts'
import { deleteAll } from '../../../infra/store/json.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { listShards } from '../shard/results.ts'
import type { BatchRef } from './lease.ts'

/**
 * Deletes what is needed only while a batch is under way. The mark that it was cancelled stays: shards of it may
 * still be in the stream, and processors skip them by it. The marker of an open batch goes last: by it a clean-up
 * that was cut short is found and done again.
 */
export async function cleanUpBatch(store: ObjectStore, ref: BatchRef): Promise<void> {
  const { tenant, batch } = ref
  const unneeded = [keys.batchManifest(tenant, batch), keys.batchPlan(tenant, batch)]
  for await (const shard of listShards(store, ref)) unneeded.push(keys.batchShard(tenant, batch, shard))
  await deleteAll(store, unneeded)
  await store.delete(keys.batchProgress(tenant, batch))
  await store.delete(keys.openBatch(tenant, batch))
}
