import { keys } from '../../../edge/contract/keys.ts'
import {
  decodeShardHeader,
  maxShardHeaderBytes,
  type ShardJob,
  type ShardTally,
} from '../../../edge/contract/shard.ts'
import { type ObjectStore, PreconditionFailedError } from '../../../infra/store/store.ts'
import type { ShardResults } from './runner.ts'

type ShardName = Pick<ShardJob, 'tenant' | 'batch' | 'shard'>

/** What is known of a shard whose results lie in the store. */
export interface StoredShard {
  tally: ShardTally
  etag: string
}

/** Undefined when the shard has no results yet. */
export async function readShard(store: ObjectStore, shard: ShardName): Promise<StoredShard | undefined> {
  const object = await store.get(keyOf(shard), { start: 0, end: maxShardHeaderBytes - 1 })
  if (!object) return undefined
  const start = new Uint8Array(await new Response(object.body).arrayBuffer())
  const { outputBytes, errorBytes, ...tally } = decodeShardHeader(start).header
  return { tally, etag: object.etag }
}

/**
 * Stores the results of a shard, or leaves those of whoever was first.
 * @param replaced the results that these are to take the place of
 * @returns the tally that counts
 */
export async function writeShard(
  store: ObjectStore,
  shard: ShardName,
  { tally, object }: ShardResults,
  replaced?: Pick<StoredShard, 'etag'>,
): Promise<ShardTally> {
  const condition = replaced ? { ifMatch: replaced.etag } : { ifNoneMatch: '*' as const }
  try {
    await store.put(keyOf(shard), object, condition)
    return tally
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error
    const first = await readShard(store, shard)
    if (!first) throw error
    return first.tally
  }
}

const keyOf = ({ tenant, batch, shard }: ShardName) => keys.batchShard(tenant, batch, shard)
