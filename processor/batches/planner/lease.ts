import { isFinal, type StoredBatch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { emptyTally } from '../../../edge/contract/shard.ts'
import { getVersioned } from '../../../infra/store/json.ts'
import { OwnedObject, OwnershipLostError } from '../../../infra/store/owned-object.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import type { WorkState } from './progress.ts'
import type { BatchError, Ending } from './status.ts'

/** Outcome of a batch. Once it is stored, the shards that are done stay those that count, for every planner. */
export interface FinalState {
  ending: Ending
  errors: BatchError[]
}

/** Progress of a batch as its planner stores it. Times are unix ms. */
export interface StoredProgress {
  /** The planner. */
  owner: string
  /** Time at which it took the batch over. */
  since: number
  /** Time of its last sign of life; 0 when it has let go. */
  heartbeat: number
  work: WorkState
  seal?: FinalState
}

/** Age of its heartbeat at which a planner is taken for dead, ms. */
const deadAfterMs = 15_000
/** A planner that has just taken a batch over keeps it, or two of them could go on taking it from each other, ms. */
const settledAfterMs = 10_000

/** A batch that is ours. */
export interface Claim {
  stored: StoredBatch
  /** Progress that the planner before us stored. */
  before: StoredProgress | undefined
  /** Time from which it is ours, unix ms. */
  since: number
  batchObject: OwnedObject
  progressObject: OwnedObject
}

/** `held`: another planner has the batch. `ended`: there is nothing to do but to clean up. */
export type ClaimResult = Claim | 'held' | 'ended'

export interface ClaimOptions {
  store: ObjectStore
  /** The planner that asks. */
  owner: string
  /** The stream brings the batch's records here, so it is better off here even if another planner has it. */
  force: boolean
  /** It has just been made: whoever hears of it through the stream is better off with it. */
  recent?: boolean
  /** Unix ms. */
  now: number
}

/** Tries to become the planner of a batch: of many that try at a time, one does. */
export async function claimBatch(
  { tenant, batch }: BatchRef,
  { store, owner, force, recent, now }: ClaimOptions,
): Promise<ClaimResult> {
  const progressKey = keys.batchProgress(tenant, batch)
  const progress = await getVersioned<StoredProgress>(store, progressKey)
  if (progress && isHeld(progress.value, { owner, force, now })) return 'held'
  if (!progress && recent) return 'held'
  const batchKey = keys.batch(tenant, batch)
  const stored = await getVersioned<StoredBatch>(store, batchKey)
  if (!stored || isFinal(stored.value.batch.status)) return 'ended'

  const before = progress?.value
  const progressObject = new OwnedObject(store, progressKey, progress?.etag)
  const work = before?.work ?? { lines: 0, sent: 0, done: '', tally: emptyTally }
  const mine: StoredProgress = { owner, since: now, heartbeat: now, work, seal: before?.seal }
  try {
    await progressObject.write(() => JSON.stringify(mine))
  } catch (error) {
    if (error instanceof OwnershipLostError) return 'held'
    throw error
  }
  const batchObject = new OwnedObject(store, batchKey, stored.etag)
  return { stored: stored.value, before, since: now, batchObject, progressObject }
}

function isHeld(
  { owner, heartbeat, since }: StoredProgress,
  asks: Pick<ClaimOptions, 'owner' | 'force' | 'now'>,
): boolean {
  if (owner === asks.owner || asks.now - heartbeat > deadAfterMs) return false
  return !asks.force || asks.now - since < settledAfterMs
}

/** Which batch it is. */
export interface BatchRef {
  tenant: string
  batch: string
}

/** The batch that a key below `keys.openBatches` is about. */
export function refOfMarker(key: string): BatchRef {
  const [tenant = '', batch = ''] = key.slice(keys.openBatches.length).split('/')
  return { tenant, batch }
}
