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
  /** Time of its claim. */
  since: number
  /** Time of the last heartbeat; 0 when it was released. */
  heartbeat: number
  work: WorkState
  seal?: FinalState
}

/** Age of the heartbeat from which on a planner counts as dead, ms. */
const deadAfterMs = 15_000
/** Time for which a new owner keeps a batch, so that two planners do not keep taking it from each other, ms. */
const settledAfterMs = 10_000

/** Batch owned by this planner. */
export interface Claim {
  stored: StoredBatch
  /** Progress that the previous planner stored. */
  before: StoredProgress | undefined
  /** Time of the claim, unix ms. */
  since: number
  batchObject: OwnedObject
  progressObject: OwnedObject
}

/** `held`: another planner has the batch. `ended`: only the clean-up is left. */
export type ClaimResult = Claim | 'held' | 'ended'

export interface ClaimOptions {
  store: ObjectStore
  /** Name of the claiming planner. */
  owner: string
  /** Takes the batch from another planner, because the stream delivers its records here. */
  force: boolean
  /** Leaves a new batch to the planner that gets it from the stream. */
  recent?: boolean
  /** Unix ms. */
  now: number
}

/** Claims a batch; of concurrent claims one succeeds. */
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
  claim: Pick<ClaimOptions, 'owner' | 'force' | 'now'>,
): boolean {
  if (owner === claim.owner || claim.now - heartbeat > deadAfterMs) return false
  return !claim.force || claim.now - since < settledAfterMs
}

/** Reference to a batch. */
export interface BatchRef {
  tenant: string
  batch: string
}

/** Parses a key below `keys.openBatches`. */
export function refOfMarker(key: string): BatchRef {
  const [tenant = '', batch = ''] = key.slice(keys.openBatches.length).split('/')
  return { tenant, batch }
}
