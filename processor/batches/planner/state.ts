import type { BatchBacklog } from '../../../edge/contract/backlog.ts'
import type { Batch, StoredBatch } from '../../../edge/contract/batch.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import type { Clock } from '../../delivery/outages.ts'
import { AttemptWatch } from './attempt.ts'
import type { BatchRef, Claim, FinalState, StoredProgress } from './lease.ts'
import { BatchWork, Changes } from './progress.ts'
import { type BatchError, dueAt, withCounts } from './status.ts'

/**
 * Everything that changes about a batch while a planner runs it. `BatchLifecycle` changes it; of its parts `planBatch`
 * adds to the plan in `work`, and `Repayment` keeps `work.repay`.
 */
export class BatchState {
  readonly ref: BatchRef
  readonly work: BatchWork
  /** Announces changes to waiting tasks. */
  readonly changes = new Changes()
  batch: Batch
  /** Errors for which the batch cannot be run. */
  errors: BatchError[] = []
  cancelled = false
  /** Set when no further line is run. */
  finalState: FinalState | undefined
  /** Sum over the shards that are in the files. */
  filesTally: ShardTally | undefined
  /** Time at which the last shard was done, unix ms. */
  lastDoneAt: number
  readonly attempt: AttemptWatch
  readonly #stored: StoredBatch

  constructor({ stored, before, since, attempt }: Claim) {
    this.ref = { tenant: stored.tenant, batch: stored.batch.id }
    this.work = new BatchWork(before?.work)
    this.batch = stored.batch
    this.finalState = before?.seal
    this.lastDoneAt = since
    this.attempt = new AttemptWatch(attempt, this.work.lines)
    this.#stored = stored
  }

  /** Takes note of how far the batch came. */
  observe(now: number): void {
    const phase = this.finalState ? 'ending' : this.work.planned ? 'running' : 'planning'
    this.attempt.observe(phase, this.work.lines, now)
  }

  /** The batch as the store keeps it, with its counts. */
  get stored(): StoredBatch {
    const { lines, planned, tally } = this.work
    const counts = { lines, tally: this.filesTally ?? tally, counting: !planned && !this.finalState }
    return { ...this.#stored, batch: withCounts(this.batch, counts) }
  }

  /** At `now`, unix ms, as below. */
  isExpired(now: number): boolean {
    return now >= this.batch.expires_at * 1000
  }

  /** True while lines may be run. */
  mayRun(now: number): boolean {
    if (this.finalState || this.cancelled || this.errors.length > 0) return false
    return this.work.usable > 0 && !this.isExpired(now)
  }

  /** True while shards are in the stream, or to be sent. */
  isSending(now: number): boolean {
    return this.mayRun(now) && !this.work.complete
  }

  /** Backlog of the batch; undefined when there is none. */
  backlog(now: number): BatchBacklog | undefined {
    const { linesLeft } = this.work
    if (!this.isSending(now) || linesLeft === 0) return undefined
    const { id, model, turbine } = this.batch
    return { batch: id, model, deadline: dueAt(this.batch), linesLeft, maxPrune: turbine.max_prune }
  }
}

/** Longest time between two heartbeats, ms. */
const heartbeatMs = 5_000

/** Stored objects of a claimed batch: the Batch object, and the progress from which another planner can resume. */
export class BatchRecord {
  /** Set when the final state is stored, so that every planner would write the same files. */
  finalStateSaved: boolean
  readonly #claim: Claim
  readonly #state: BatchState
  readonly #planner: { owner: string; clock: Pick<Clock, 'now'> }
  #savedProgress: string
  #savedBatch: string
  #savedAt: number

  constructor(claim: Claim, state: BatchState, planner: { owner: string; clock: Pick<Clock, 'now'> }) {
    this.#claim = claim
    this.#state = state
    this.#planner = planner
    // The claim has written it.
    this.finalStateSaved = state.finalState !== undefined
    this.#savedProgress = JSON.stringify(this.#progress(0))
    this.#savedBatch = JSON.stringify(claim.stored)
    this.#savedAt = claim.since
  }

  /**
   * Writes changed objects and the heartbeat. The progress goes first: there a planner notices that it has lost the
   * batch, and leaves the Batch object alone.
   * @throws OwnershipLostError, StoreUnavailableError
   */
  async save(): Promise<void> {
    const { clock } = this.#planner
    const now = clock.now()
    this.#state.observe(now)
    const progress = JSON.stringify(this.#progress(0))
    const { finalState } = this.#state
    if (progress !== this.#savedProgress || now - this.#savedAt >= heartbeatMs) {
      await this.#write(() => clock.now())
      this.#savedProgress = progress
      this.#savedAt = now
    }
    this.finalStateSaved ||= finalState !== undefined
    const batch = JSON.stringify(this.#state.stored)
    if (batch === this.#savedBatch) return
    await this.#claim.batchObject.write(() => JSON.stringify(this.#state.stored))
    this.#savedBatch = batch
  }

  /** Releases the batch to another planner. */
  release(): Promise<void> {
    return this.#write(() => 0)
  }

  #write(heartbeat: () => number): Promise<void> {
    return this.#claim.progressObject.write(() => JSON.stringify(this.#progress(heartbeat())))
  }

  #progress(heartbeat: number): StoredProgress {
    const { work, attempt, finalState } = this.#state
    const { owner } = this.#planner
    const { since } = this.#claim
    return { owner, since, heartbeat, work: work.toState(), attempt: attempt.attempt, seal: finalState }
  }
}
