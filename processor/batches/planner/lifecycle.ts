import { keys } from '../../../edge/contract/keys.ts'
import type { Control } from '../../../edge/contract/shard.ts'
import { getJson } from '../../../infra/store/store.ts'
import { expireShards } from '../shard/unrun.ts'
import { givenUpError } from './attempt.ts'
import type { BatchContext, PlannerServices } from './context.ts'
import type { Claim, FinalState } from './lease.ts'
import { planBatch } from './plan-batch.ts'
import { Repayment } from './repayment.ts'
import { EarlyFiles, joinFiles } from './result-files.ts'
import {
  type DoneShard,
  findDoneShards,
  missingJobs,
  ResendPolicy,
  sendAtOnce,
  sendShards,
  shardsToSend,
} from './shard-sender.ts'
import { BatchRecord, BatchState } from './state.ts'
import { type BatchError, begun, cancelling, concluded, finalizing } from './status.ts'

/** Time between two saves of the progress, ms. */
const saveMs = 1_000
/** Time between two decisions on counting and resending shards, ms. */
const watchMs = 5_000
/** Grace period in which processors notice a cancellation; shards finished until then count, ms. */
const cancelGraceMs = 3_000
/** Grace period in which processors finish started shards of an expired batch, ms. */
const expiryGraceMs = 10_000
/** Number of shards from which on files are written early. */
const earlyFilesShards = 64

/** Runs one batch from its manifest to its files, on the planner that has claimed it. */
export class BatchLifecycle {
  readonly state: BatchState
  /** Resolves when the input has been read, and the store knows it; or when the batch has ended here. */
  readonly planned: Promise<void>
  readonly #planned = Promise.withResolvers<void>()
  readonly #context: BatchContext
  readonly #resumed: boolean
  readonly #stopping = new AbortController()
  readonly #earlyFiles: EarlyFiles
  readonly #repayment: Repayment

  constructor(claim: Claim, services: PlannerServices) {
    this.state = new BatchState(claim)
    this.planned = this.#planned.promise
    this.#resumed = claim.before !== undefined
    this.#context = {
      ...services,
      state: this.state,
      record: new BatchRecord(claim, this.state, services),
      signal: AbortSignal.any([services.signal, this.#stopping.signal]),
    }
    this.#earlyFiles = new EarlyFiles(this.#context)
    this.#repayment = new Repayment(this.#context)
  }

  /** Handles a control record of the batch. */
  handle(control: Control): void {
    if (control.type === 'batch_cancelled') this.#cancel()
    if (this.state.finalState) return
    if (control.type === 'shard_repaid') this.#repayment.answered(control)
    if (control.type === 'shard_waiting') {
      this.state.work.wait(control.shard)
      this.state.changes.announce()
    }
    if (control.type !== 'shard_done') return
    // Early files may have the replaced results.
    if (control.replaced) void this.#earlyFiles.drop()
    this.#shardDone(control)
  }

  /**
   * Resolves when the batch is in its final state.
   * @throws OwnershipLostError when another planner has taken over; the signal's reason when the planner shuts down
   */
  async run(): Promise<void> {
    const loops = [this.#plan(), this.#send(), this.#save(), this.#watch()]
    const concluding = this.#conclude()
    try {
      await Promise.race([concluding, Promise.all(loops)])
    } finally {
      this.#stopping.abort(new Error('The batch has ended.'))
      this.#planned.resolve()
      await Promise.allSettled([...loops, concluding, this.#earlyFiles.files])
    }
  }

  /** Notes that other work begins beside that of a suspect: its planner's death would not tell any longer. */
  async setCompany(): Promise<void> {
    this.state.attempt.setCompany()
    await this.#context.record.save()
  }

  /** Releases the batch to another planner. */
  release(): Promise<void> {
    return this.#context.record.release()
  }

  #shardDone({ shard, tally }: DoneShard): void {
    const { state, clock, sendWindow, onShardDone } = this.#context
    if (state.finalState || !state.work.finish(shard, tally)) return
    state.lastDoneAt = clock.now()
    sendWindow.onShardDone(clock.now())
    onShardDone?.()
    state.changes.announce()
  }

  /** Stops the batch; with all results it still completes. `at`: unix seconds. */
  #cancel(at = Math.floor(this.#context.clock.now() / 1000)): void {
    const { state } = this
    if (state.finalState || state.cancelled) return
    state.cancelled = true
    if (!state.work.complete) state.batch = cancelling(state.batch, at)
    state.changes.announce()
  }

  async #plan(): Promise<void> {
    const { state, record, outages, signal } = this.#context
    const { givenUp } = state.attempt
    if (state.finalState) return
    state.errors = givenUp ? [givenUpError(givenUp)] : await planBatch(this.#context)
    // Before its lines can kill a processor in this process.
    await outages.outlast(() => record.save(), signal)
    this.#planned.resolve()
    state.changes.announce()
  }

  async #send(): Promise<void> {
    const { state, clock, signal } = this.#context
    // Shards that another planner sent may be done since.
    if (this.#resumed) await this.#countDone()
    for (;;) {
      const shards = shardsToSend(this.#context)
      if (shards.length === 0) {
        await state.changes.next(signal)
        continue
      }
      await sendShards(this.#context, shards)
      state.work.markSent(shards)
      state.batch = begun(state.batch, clock.now())
    }
  }

  /** Saves progress and checks for cancellation. */
  async #save(): Promise<void> {
    const { state, record, clock, outages, store, signal } = this.#context
    const { tenant, batch } = state.ref
    const attempt = outages.attempts()
    for (;;) {
      await attempt(async () => {
        const cancel = await getJson<{ cancelling_at?: number }>(store, keys.batchCancel(tenant, batch))
        if (cancel) this.#cancel(cancel.cancelling_at)
        await record.save()
      })
      if (state.mayRun(clock.now()) && state.work.sent >= earlyFilesShards) this.#earlyFiles.begin()
      await clock.sleep(saveMs, signal)
      signal.throwIfAborted()
      state.changes.announce()
    }
  }

  /** Finds done shards whose control record was lost, and resends shards that seem lost. */
  async #watch(): Promise<void> {
    const { state, clock, signal } = this.#context
    const policy = new ResendPolicy(clock.now())
    for (;;) {
      await clock.sleep(watchMs, signal)
      signal.throwIfAborted()
      if (state.work.outstanding.length === 0) continue
      const { count, resend } = policy.decide(clock.now(), state.lastDoneAt)
      if (count) await this.#countDone()
      if (resend) await this.#resend()
    }
  }

  async #countDone(): Promise<void> {
    const { outages, signal } = this.#context
    await outages.outlast(async () => {
      for await (const done of findDoneShards(this.#context)) this.#shardDone(done)
    }, signal)
  }

  async #resend(): Promise<void> {
    const { state, clock } = this.#context
    const lost = state.work.outstanding.filter((shard) => shard < state.work.shards.length)
    for (let first = 0; first < lost.length && state.mayRun(clock.now()); first += sendAtOnce) {
      await sendShards(this.#context, lost.slice(first, first + sendAtOnce))
    }
  }

  async #conclude(): Promise<void> {
    const { state, record, clock, outages, signal } = this.#context
    state.finalState ??= await this.#untilOver()
    const { ending, errors } = state.finalState
    state.batch = finalizing(state.batch, ending, clock.now())
    state.changes.announce()
    await outages.outlast(() => record.save(), signal)
    state.changes.announce()
    if (state.attempt.givenUp === 'ending') return this.#concludeWithoutFiles(errors)
    const files = await joinFiles(this.#context, this.#earlyFiles.files)
    const failed = state.work.lines - files.tally.completed
    state.filesTally = ending === 'failed' ? { ...files.tally, failed } : files.tally
    const conclusion = { ...files, ending, errors: [...errors, ...files.errors] }
    state.batch = concluded(state.batch, conclusion, clock.now())
    await outages.outlast(() => record.save(), signal)
  }

  /** Ends a batch whose files cannot be written. */
  async #concludeWithoutFiles(errors: BatchError[]): Promise<void> {
    const { state, record, clock, outages, signal } = this.#context
    const files = { outputFileId: null, errorFileId: null }
    const conclusion = { ...files, errors: [...errors, givenUpError('ending')] }
    state.batch = concluded(state.batch, { ...conclusion, ending: 'failed' }, clock.now())
    await outages.outlast(() => record.save(), signal)
  }

  /** Whether shards ended with the cancellation, before all of their lines were done. */
  get #isCut(): boolean {
    const { cancelled, work } = this.#context.state
    return cancelled && !work.repay.begun && work.linesLeft > 0
  }

  /** Waits until no more lines are to be run. */
  async #untilOver(): Promise<FinalState> {
    const { state, clock, signal } = this.#context
    const { work } = state
    for (;;) {
      if (state.errors.length > 0) {
        await this.#untilQuiet(cancelGraceMs)
        return { ending: 'failed', errors: state.errors }
      }
      if (work.complete && !this.#isCut) {
        await this.#repay()
        return { ending: 'completed', errors: [] }
      }
      if (state.cancelled) {
        await this.#untilQuiet(cancelGraceMs)
        return { ending: 'cancelled', errors: [] }
      }
      if (state.isExpired(clock.now()) && work.planned) {
        await this.#expire()
        return { ending: 'expired', errors: [] }
      }
      await state.changes.next(signal)
    }
  }

  /** Waits for shards in progress. */
  async #untilQuiet(graceMs: number): Promise<void> {
    const { state, clock, signal } = this.#context
    if (state.work.outstanding.length > 0) await clock.sleep(graceMs, signal)
    await this.#countDone()
  }

  async #expire(): Promise<void> {
    const { state, outages, signal } = this.#context
    await this.#untilQuiet(expiryGraceMs)
    await outages.outlast(async () => {
      for await (const done of expireShards(missingJobs(state), this.#context)) this.#shardDone(done)
    }, signal)
  }

  /** Has pruned lines captioned again if enabled, and waits for those that another planner requested. */
  async #repay(): Promise<void> {
    if (!this.#repayment.worthwhile && this.state.work.repay.asked === 0) return
    await this.#earlyFiles.drop()
    await this.#repayment.run()
  }
}
