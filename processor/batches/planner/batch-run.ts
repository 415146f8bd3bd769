import type { Batch } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { BatchPace } from '../../../edge/contract/pace.ts'
import type { ShardJob, ShardTally } from '../../../edge/contract/shard.ts'
import { getJson } from '../../../infra/store/store.ts'
import { expireShards } from '../shard/unrun.ts'
import type { RunDeps } from './deps.ts'
import { BatchRecord, type BatchRef, type Claim, type Seal } from './lease.ts'
import { planBatch } from './plan-batch.ts'
import { BatchWork, Changes } from './progress.ts'
import { Repayment } from './repayment.ts'
import { EarlyFiles, type JoinFilesOptions, joinFiles, writeFiles } from './result-files.ts'
import { ShardSender } from './shard-sender.ts'
import { type BatchError, begun, cancelling, concluded, dueAt, finalizing, withCounts } from './status.ts'

/** How often a batch looks around and tells how far it is, ms. */
const beatMs = 1_000
/** Processors see within a second that a batch is cancelled; what they finish until then counts, ms. */
const cancelGraceMs = 3_000
/** Processors end the shards that they have begun by themselves when a batch expires, ms. */
const expiryGraceMs = 10_000
/** From so many shards on, the files are begun while shards are still being done. */
const earlyFilesShards = 64

/** The way of one batch from its manifest to its files, at the planner that has claimed it. */
export class BatchRun {
  readonly #deps: RunDeps
  readonly #claim: Claim
  readonly #ref: BatchRef
  readonly #record: BatchRecord
  readonly #work: BatchWork
  readonly #changes = new Changes()
  #batch: Batch
  /** Set when nothing more is run. */
  #seal: Seal | undefined
  /** Whether the seal is in the store. */
  #sealKept: boolean
  /** Why the batch cannot be run. */
  #faults: BatchError[] = []
  #cancelled = false
  readonly #sender: ShardSender
  readonly #earlyFiles: EarlyFiles
  readonly #repayment: Repayment
  /** What came of the shards that are in the files. */
  #joined: ShardTally | undefined
  /** When the last shard was done, unix ms. */
  #doneAt: number

  constructor(claim: Claim, deps: RunDeps) {
    const { stored, before, since } = claim
    this.#claim = claim
    this.#deps = deps
    this.#ref = { tenant: stored.tenant, batch: stored.batch.id }
    this.#work = new BatchWork(before?.work)
    this.#batch = stored.batch
    this.#seal = before?.seal
    this.#sealKept = this.#seal !== undefined
    this.#doneAt = since
    this.#sender = this.#createSender()
    this.#earlyFiles = this.#createEarlyFiles()
    this.#repayment = this.#createRepayment()
    const current = () => ({ batch: this.#counted(), work: this.#work.toState(), seal: this.#seal })
    this.#record = new BatchRecord({ claim, owner: deps.owner, clock: deps.clock, current })
  }

  get batch(): Batch {
    return this.#batch
  }

  /** Whether it has shards in the stream, or to send. */
  get sending(): boolean {
    return this.#mayRun && !this.#work.complete
  }

  /** What is left of it to run; undefined when that is nothing. */
  get pace(): BatchPace | undefined {
    const { linesLeft } = this.#work
    if (!this.sending || linesLeft === 0) return undefined
    const { id, turbine } = this.#batch
    return { batch: id, deadline: dueAt(this.#batch), linesLeft, maxPrune: turbine.max_prune }
  }

  /**
   * The results of a shard are in the store.
   * @param replaced whether they took the place of earlier ones
   */
  shardDone(shard: number, tally: ShardTally, { replaced = false } = {}): void {
    if (this.#seal) return
    // The files may have the earlier ones. They are begun again.
    if (replaced) void this.#earlyFiles.drop()
    if (!this.#work.finish(shard, tally)) return
    this.#doneAt = this.#deps.clock.now()
    this.#deps.onShardDone()
    this.#changes.announce()
  }

  /** A processor has captioned pruned lines of a shard again, but for `pending` ones. */
  shardRepaid(shard: number, tally: ShardTally, pending: number): void {
    if (!this.#seal) this.#repayment.answered(shard, tally, pending)
  }

  /** The batch is to stop: no line is run any more. One that has all its results completes. `at`: unix seconds. */
  cancel(at = Math.floor(this.#deps.clock.now() / 1000)): void {
    if (this.#seal || this.#cancelled) return
    this.#cancelled = true
    if (!this.#work.complete) this.#batch = cancelling(this.#batch, at)
    this.#changes.announce()
  }

  /**
   * Resolves when the batch is in its final state.
   * @throws OwnershipLostError when another planner has taken over; the signal's reason when it aborts
   */
  async run(signal: AbortSignal): Promise<void> {
    const stopping = new AbortController()
    const both = AbortSignal.any([signal, stopping.signal])
    const tasks = [this.#plan(both), this.#send(both), this.#beat(both), this.#sender.watch(both)]
    const concluding = this.#conclude(both)
    const failure = new Promise<never>((_, reject) => {
      for (const task of tasks) task.catch(reject)
    })
    try {
      await Promise.race([concluding, failure])
    } finally {
      stopping.abort(new Error('The batch is over.'))
      await Promise.allSettled([...tasks, concluding, this.#earlyFiles.files])
    }
  }

  /** Lets another planner take over at once. */
  release(): Promise<void> {
    return this.#record.release()
  }

  get #mayRun(): boolean {
    if (this.#seal || this.#cancelled || this.#faults.length > 0) return false
    return this.#work.usable > 0 && !this.#isExpired
  }

  get #isExpired(): boolean {
    return this.#deps.clock.now() >= this.#batch.expires_at * 1000
  }

  async #plan(signal: AbortSignal): Promise<void> {
    if (this.#seal) return
    const onLines = (more: number) => {
      this.#deps.onLines(more)
      this.#changes.announce()
    }
    const { stored } = this.#claim
    const { now } = this.#deps.clock
    this.#faults = await planBatch({ ...this.#deps, stored, work: this.#work, signal, now, onLines })
    this.#changes.announce()
  }

  async #send(signal: AbortSignal): Promise<void> {
    // What another planner sent may be done since.
    if (this.#claim.before) await this.#sender.count(signal)
    await this.#sender.run(signal)
  }

  /** Says that it is alive and how far it is, and looks whether it is to stop. */
  async #beat(signal: AbortSignal): Promise<void> {
    const { clock, outages, store } = this.#deps
    const { tenant, batch } = this.#ref
    const attempt = outages.attempts()
    for (;;) {
      await attempt(async () => {
        const cancel = await getJson<{ cancelling_at?: number }>(store, keys.batchCancel(tenant, batch))
        if (cancel) this.cancel(cancel.cancelling_at)
        await this.#record.save()
      })
      if (!this.#seal && this.#work.sent >= earlyFilesShards) this.#earlyFiles.begin(signal)
      await clock.sleep(beatMs, signal)
      signal.throwIfAborted()
      this.#changes.announce()
    }
  }

  async #conclude(signal: AbortSignal): Promise<void> {
    const { clock, outages } = this.#deps
    this.#seal ??= await this.#untilOver(signal)
    this.#changes.announce()
    const { ending, errors } = this.#seal
    this.#batch = finalizing(this.#batch, ending, clock.now())
    await outages.outlast(() => this.#record.save(), signal)
    this.#sealKept = true
    this.#changes.announce()
    const files = await joinFiles({
      ...this.#deps,
      ...this.#filesOptions(() => this.#shardsInOrder(), signal),
      begun: this.#earlyFiles.files,
    })
    const failed = this.#work.lines - files.tally.completed
    this.#joined = ending === 'failed' ? { ...files.tally, failed } : files.tally
    const conclusion = { ...files, ending, errors: [...errors, ...files.errors] }
    this.#batch = concluded(this.#batch, conclusion, clock.now())
    await outages.outlast(() => this.#record.save(), signal)
  }

  /** Waits until nothing more is to be run, or may be. */
  async #untilOver(signal: AbortSignal): Promise<Seal> {
    for (;;) {
      if (this.#faults.length > 0) {
        await this.#untilQuiet(cancelGraceMs, signal)
        return { ending: 'failed', errors: this.#faults }
      }
      if (this.#work.complete) {
        await this.#repay(signal)
        return { ending: 'completed', errors: [] }
      }
      if (this.#cancelled) {
        await this.#untilQuiet(cancelGraceMs, signal)
        return { ending: 'cancelled', errors: [] }
      }
      if (this.#isExpired && this.#work.planned) {
        await this.#expire(signal)
        return { ending: 'expired', errors: [] }
      }
      await this.#changes.next(signal)
    }
  }

  /** Lets processors end what they have in hand. */
  async #untilQuiet(graceMs: number, signal: AbortSignal): Promise<void> {
    if (this.#work.outstanding.size > 0) await this.#deps.clock.sleep(graceMs, signal)
    await this.#sender.count(signal)
  }

  async #expire(signal: AbortSignal): Promise<void> {
    await this.#untilQuiet(expiryGraceMs, signal)
    const done = (shard: number, tally: ShardTally) => this.shardDone(shard, tally)
    const expire = () => expireShards(this.#missingJobs(), this.#deps, done, signal)
    await this.#deps.outages.outlast(expire, signal)
  }

  *#missingJobs(): Generator<ShardJob> {
    for (const shard of this.#work.missing()) yield this.#sender.job(shard)
  }

  /** Has pruned lines captioned again, where the service does that. What another planner asked for is waited for. */
  async #repay(signal: AbortSignal): Promise<void> {
    if (!this.#repayment.worthwhile && this.#work.repay.asked === 0) return
    await this.#earlyFiles.drop()
    await this.#repayment.run(signal)
  }

  #createSender(): ShardSender {
    return new ShardSender({
      ...this.#deps,
      ref: this.#ref,
      batch: this.#batch,
      work: this.#work,
      changes: this.#changes,
      mayRun: () => this.#mayRun,
      doneAt: () => this.#doneAt,
      onDone: (shard, tally) => this.shardDone(shard, tally),
      onSent: () => {
        this.#batch = begun(this.#batch, this.#deps.clock.now())
      },
    })
  }

  #createRepayment(): Repayment {
    return new Repayment({
      ...this.#deps,
      ref: this.#ref,
      work: this.#work,
      changes: this.#changes,
      until: dueAt(this.#batch),
      goesOn: () => this.#deps.repay && !this.#cancelled,
      save: () => this.#record.save(),
      send: (shards, repay, signal) => this.#sender.send(shards, signal, { repay }),
    })
  }

  #createEarlyFiles(): EarlyFiles {
    return new EarlyFiles({
      work: this.#work,
      changes: this.#changes,
      isOver: () => this.#seal !== undefined,
      isKept: () => this.#sealKept,
      takePlace: () => this.#deps.takePlace(),
      write: (shards, signal) =>
        writeFiles(this.#filesOptions(shards, signal), this.#batch.turbine.output_uri),
    })
  }

  #filesOptions(shards: () => AsyncIterable<number>, signal: AbortSignal): JoinFilesOptions {
    const { store, buckets } = this.#deps
    return { store, buckets, stored: { ...this.#claim.stored, batch: this.#batch }, shards, signal }
  }

  /** The shards that count, when that is certain. */
  async *#shardsInOrder(): AsyncGenerator<number> {
    for (let shard = 0; shard < this.#work.doneEnd; shard++) if (this.#work.isDone(shard)) yield shard
  }

  #counted(): Batch {
    const { lines, planned, tally } = this.#work
    return withCounts(this.#batch, {
      lines,
      tally: this.#joined ?? tally,
      counting: !planned && !this.#seal,
    })
  }
}
