import type { ShardJob, ShardTally } from '../../../edge/contract/shard.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import type { SliceStores } from '../../../infra/store/slices.ts'
import { expiredShard } from './expired-shard.ts'
import { writeShard } from './shard-object.ts'

const shardsAtOnce = 4

/**
 * Writes the results of shards that nobody ran before their batch expired. Whoever was first with a shard's results
 * keeps them.
 * @throws StoreUnavailableError
 */
export async function expireShards(
  jobs: Iterable<ShardJob>,
  stores: SliceStores,
  onDone: (shard: number, tally: ShardTally) => void,
  signal: AbortSignal,
): Promise<void> {
  const expire = async (job: ShardJob) => {
    const tally = await writeShard(stores.store, job, await expiredShard(job, stores))
    onDone(job.shard, tally)
  }
  const options = { concurrency: shardsAtOnce, window: shardsAtOnce, signal }
  for await (const _ of mapInOrder(ReadableStream.from(jobs), expire, options)) signal.throwIfAborted()
}
