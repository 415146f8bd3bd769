import { isFinal, type StoredBatch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { emptyTally } from '../../../edge/contract/shard.ts'
import { getVersioned, putJson } from '../../../infra/store/json.ts'
import { OwnedObject, OwnershipLostError } from '../../../infra/store/owned-object.ts'
import { getJson, type ObjectStore } from '../../../infra/store/store.ts'
import { type Attempt, attemptAfterRelease, firstAttempt, isSuspect, nextAttempt } from './attempt.ts'
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
  /** What planners have died at; written with the claim, so before the work. Absent in the progress of old planners. */
  attempt?: Attempt
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
  attempt: Attempt
  batchObject: OwnedObject
  progressObject: OwnedObject
}

/** `held`: another planner has the batch. `ended`: only the clean-up is left. `suspect`: it has to be claimed alone. */
export type ClaimResult = Claim | 'held' | 'ended' | 'suspect'

export interface ClaimOptions {
  store: ObjectStore
  /** Name of the claiming planner. */
  owner: string
  /** Takes the batch from another planner, because the stream delivers its records here. */
  force: boolean
  /** Leaves a new batch to the planner that gets it from the stream. */
  recent?: boolean
  /** `alone`: nothing else that could kill this process runs beside it. Without it, a suspect is not claimed. */
  alone?: 'alone' | 'company'
  /** `since` of this process's own last claim of the batch: it did not die. */
  ownSince?: number
  /** Unix ms. */
  now: number
}

/** Claims a batch; of concurrent claims one succeeds. */
export async function claimBatch(ref: BatchRef, options: ClaimOptions): Promise<ClaimResult> {
  const { tenant, batch } = ref
  const { store, owner, force, recent, alone, now } = options
  const progressKey = keys.batchProgress(tenant, batch)
  const progress = await getVersioned<StoredProgress>(store, progressKey)
  if (progress && isHeld(progress.value, { owner, force, now })) return 'held'
  if (!progress && recent) return 'held'
  const batchKey = keys.batch(tenant, batch)
  const stored = await getVersioned<StoredBatch>(store, batchKey)
  if (!stored || isFinal(stored.value.batch.status)) return 'ended'

  const before = progress?.value
  const last = before ? await attemptAfter(ref, before, options) : firstAttempt
  const attempt = { ...last, isAlone: alone === 'alone' }
  if (isSuspect(attempt) && !alone) return 'suspect'
  const progressObject = new OwnedObject(store, progressKey, progress?.etag)
  const work = before?.work ?? { lines: 0, sent: 0, done: '', tally: emptyTally }
  const mine: StoredProgress = { owner, since: now, heartbeat: now, work, attempt, seal: before?.seal }
  try {
    await progressObject.write(() => JSON.stringify(mine))
  } catch (error) {
    if (error instanceof OwnershipLostError) return 'held'
    throw error
  }
  const batchObject = new OwnedObject(store, batchKey, stored.etag)
  return { stored: stored.value, before, since: now, attempt, batchObject, progressObject }
}

/** The attempt that begins now: the previous planner has died at it unless it released the batch, or is alive. */
async function attemptAfter(
  { tenant, batch }: BatchRef,
  before: StoredProgress,
  { store, owner, ownSince }: ClaimOptions,
): Promise<Attempt> {
  const last = before.attempt ?? firstAttempt
  if (before.heartbeat === 0 || (before.owner === owner && before.since === ownSince))
    return attemptAfterRelease(last)
  const survival = last.deaths > 0 && (await getJson<Survival>(store, keys.batchSurvival(tenant, batch)))
  const isInnocent = survival && survival.since >= (last.last ?? 0)
  return nextAttempt(isInnocent ? { ...firstAttempt, phase: last.phase } : last, before.since)
}

/** Notes that the planner which claimed the batch at `since` lost it alive, so that this counts as no death. */
export async function noteSurvival(
  store: Pick<ObjectStore, 'put'>,
  { tenant, batch }: BatchRef,
  since: number,
): Promise<void> {
  await putJson(store, keys.batchSurvival(tenant, batch), { since } satisfies Survival)
}

/** Object under `keys.batchSurvival`. */
interface Survival {
  /** Unix ms. */
  since: number
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
