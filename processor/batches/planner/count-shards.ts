import pLimit from 'p-limit'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { listShards } from '../shard/results.ts'
import { readShard } from '../shard/shard-object.ts'
import type { BatchRef } from './batch-ref.ts'
import type { BatchWork } from './progress.ts'

const readsAtOnce = 16

/**
 * Counts the shards whose results are in the store and that are not known to be done.
 * @throws StoreUnavailableError; what was counted until then is counted
 */
export async function countShards(
  store: ObjectStore,
  ref: BatchRef,
  work: Pick<BatchWork, 'firstMissing' | 'isDone'>,
  onDone: (shard: number, tally: ShardTally) => void,
): Promise<void> {
  const limit = pLimit(readsAtOnce)
  const count = async (shard: number) => {
    const stored = await readShard(store, { ...ref, shard })
    if (stored) onDone(shard, stored.tally)
  }
  const uncounted: number[] = []
  for await (const shard of listShards(store, ref, work.firstMissing)) {
    if (!work.isDone(shard)) uncounted.push(shard)
  }
  await Promise.all(uncounted.map((shard) => limit(count, shard)))
}
