import type { Batch } from '../../../edge/contract/batch.ts'
import type { Clock } from '../../delivery/outages.ts'
import type { Claim, Seal, StoredProgress } from './lease.ts'
import type { WorkState } from './progress.ts'

/** A planner says that it is alive at least so often, ms. */
const heartbeatMs = 5_000

/** How far a batch is. */
export interface BatchState {
  batch: Batch
  work: WorkState
  seal: Seal | undefined
}

export interface BatchRecordOptions {
  claim: Claim
  owner: string
  clock: Pick<Clock, 'now'>
  /** Called whenever it is written. */
  current(): BatchState
}

/** What the store knows of a batch that is ours: the Batch object, and what another planner needs to go on. */
export class BatchRecord {
  readonly #options: BatchRecordOptions
  #savedState: string
  #savedBatch: string
  #savedAt: number

  constructor(options: BatchRecordOptions) {
    this.#options = options
    // The claim has written it.
    this.#savedState = this.#state()
    this.#savedBatch = JSON.stringify(options.claim.stored)
    this.#savedAt = options.claim.since
  }

  /**
   * Writes what has changed, and now and then that we are alive. The progress goes first: who has lost the batch
   * learns it there, and leaves the Batch object alone.
   * @throws OwnershipLostError, StoreUnavailableError
   */
  async save(): Promise<void> {
    const { claim, clock } = this.#options
    const now = clock.now()
    const state = this.#state()
    if (state !== this.#savedState || now - this.#savedAt >= heartbeatMs) {
      await claim.progressObject.write(() => this.#progress(clock.now()))
      this.#savedState = state
      this.#savedAt = now
    }
    const batch = this.#batch()
    if (batch === this.#savedBatch) return
    await claim.batchObject.write(() => this.#batch())
    this.#savedBatch = batch
  }

  /** Lets another planner take over at once. */
  async release(): Promise<void> {
    await this.#options.claim.progressObject.write(() => this.#progress(0))
  }

  #state(): string {
    const { work, seal } = this.#options.current()
    return JSON.stringify({ work, seal })
  }

  #batch(): string {
    return JSON.stringify({ ...this.#options.claim.stored, batch: this.#options.current().batch })
  }

  #progress(heartbeat: number): string {
    const { claim, owner, current } = this.#options
    const { work, seal } = current()
    const progress: StoredProgress = { owner, since: claim.since, heartbeat, work, seal }
    return JSON.stringify(progress)
  }
}
