import { keys } from '../../../edge/contract/keys.ts'
import {
  decodeShardHeader,
  maxShardHeaderBytes,
  type ShardJob,
  type ShardTally,
} from '../../../edge/contract/shard.ts'
import { BaseError } from '../../../infra/errors.ts'
import { onlyIf } from '../../../infra/store/json.ts'
import { listPages, type ObjectStore, PreconditionFailedError } from '../../../infra/store/store.ts'
import type { BatchRef } from '../planner/lease.ts'
import type { ShardResults } from './runner.ts'

/** Lists the shards from `from` on whose results are in the store, ascending. */
export async function* listShards(
  store: Pick<ObjectStore, 'list'>,
  { tenant, batch }: BatchRef,
  from = 0,
): AsyncGenerator<number> {
  const prefix = keys.batchShards(tenant, batch)
  const startAfter = from === 0 ? undefined : keys.batchShard(tenant, batch, from - 1)
  for await (const page of listPages(store, prefix, { startAfter }))
    for (const { key } of page) yield Number(key.slice(prefix.length))
}

/** Summary of a shard whose results are in the store. */
export interface StoredShard {
  tally: ShardTally
  etag: string
}

/** Results of a shard, taken apart. */
export interface ShardParts extends StoredShard {
  /** Output lines with their line ends. */
  output: Uint8Array
  /** Error lines with their line ends. */
  errors: Uint8Array
}

/** Results of a shard that are missing or damaged. */
export class ShardObjectError extends BaseError {}

/** @throws ShardObjectError when they are missing or damaged */
export async function readShardParts(
  store: Pick<ObjectStore, 'get'>,
  ref: BatchRef,
  shard: number,
): Promise<ShardParts> {
  const parts = await findShardParts(store, ref, shard)
  if (parts) return parts
  throw new ShardObjectError(`There is no object "${keys.batchShard(ref.tenant, ref.batch, shard)}".`)
}

/**
 * Undefined when the shard has no results.
 * @throws ShardObjectError when they are damaged
 */
export async function findShardParts(
  store: Pick<ObjectStore, 'get'>,
  { tenant, batch }: BatchRef,
  shard: number,
): Promise<ShardParts | undefined> {
  const key = keys.batchShard(tenant, batch, shard)
  const object = await store.get(key)
  if (!object) return undefined
  const bytes = new Uint8Array(await new Response(object.body).arrayBuffer())
  const { header, bodyStart } = decodeShardHeader(bytes)
  const { outputBytes, errorBytes, ...tally } = header
  const errorsStart = bodyStart + outputBytes
  if (bytes.length !== errorsStart + errorBytes)
    throw new ShardObjectError(`The object "${key}" is not as long as its header says.`)
  return {
    tally,
    output: bytes.subarray(bodyStart, errorsStart),
    errors: bytes.subarray(errorsStart),
    etag: object.etag,
  }
}

type ShardName = Pick<ShardJob, 'tenant' | 'batch' | 'shard'>

/** Undefined when the shard has no results yet. */
export async function readShard(store: ObjectStore, shard: ShardName): Promise<StoredShard | undefined> {
  const object = await store.get(keyOf(shard), { start: 0, end: maxShardHeaderBytes - 1 })
  if (!object) return undefined
  const start = new Uint8Array(await new Response(object.body).arrayBuffer())
  const { outputBytes, errorBytes, ...tally } = decodeShardHeader(start).header
  return { tally, etag: object.etag }
}

/**
 * Stores the results of a shard, unless another writer was first.
 * @param replaced earlier results to replace
 * @returns the tally of the stored results
 */
export async function writeShard(
  store: ObjectStore,
  shard: ShardName,
  { tally, object }: ShardResults,
  replaced?: Pick<StoredShard, 'etag'>,
): Promise<ShardTally> {
  try {
    await store.put(keyOf(shard), object, onlyIf(replaced?.etag))
    return tally
  } catch (error) {
    if (!(error instanceof PreconditionFailedError)) throw error
    const first = await readShard(store, shard)
    if (!first) throw error
    return first.tally
  }
}

const keyOf = ({ tenant, batch, shard }: ShardName) => keys.batchShard(tenant, batch, shard)
