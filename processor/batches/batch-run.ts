import type { Batch } from '../../edge/contract/batch.ts'
import { keys } from '../../edge/contract/keys.ts'
import { encodeShardJob, type ShardJob, type ShardTally } from '../../edge/contract/shard.ts'
import { topics } from '../../edge/contract/topics.ts'
import { getJson } from '../../infra/store/store.ts'
import type { Claim, Seal } from './batch-claim.ts'
import { BatchRecord } from './batch-record.ts'
import type { BatchRef } from './batch-ref.ts'
import { type BatchError, begun, cancelling, concluded, finalizing, withCounts } from './batch-status.ts'
import { BatchWork } from './batch-work.ts'
import { Changes } from './changes.ts'
import { countShards } from './count-shards.ts'
import { expireShards } from './expire-shards.ts'
import { type JoinFilesOptions, joinFiles, writeFiles } from './join-files.ts'
import { Patience } from './patience.ts'
import { shardJob } from './plan.ts'
import { planBatch } from './plan-batch.ts'
import type { RunDeps } from './run-deps.ts'

/** How often a batch looks around and tells how far it is, ms. */
const beatMs = 1_000
/** Shards that are sent together at most. */
const sendAtOnce = 100
/** Processors see within a second that a batch is cancelled; what they finish until then counts, ms. */
const cancelGraceMs = 3_000
/** Processors end the shards that they have begun by themselves when a batch expires, ms. */
const expiryGraceMs = 10_000
/** How often it is decided whether to look for shards, ms. */
const watchMs = 5_000
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
  /** Why the batch cannot be run. */
  #faults: BatchError[] = []
  #cancelled = false
  #earlyFiles: ReturnType<typeof writeFiles> | undefined
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
    this.#doneAt = since
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

  /** The results of a shard are in the store. */
  shardDone(shard: number, tally: ShardTally): void {
    if (this.#seal || !this.#work.finish(shard, tally)) return
    this.#doneAt = this.#deps.clock.now()
    this.#deps.onShardDone()
    this.#changes.announce()
  }

  /** The batch is to stop. `at`: unix seconds. */
  cancel(at = Math.floor(this.#deps.clock.now() / 1000)): void {
    if (this.#seal || this.#cancelled) return
    this.#cancelled = true
    this.#batch = cancelling(this.#batch, at)
    this.#changes.announce()
  }

  /**
   * Resolves when the batch is in its final state.
   * @throws OwnershipLostError when another planner has taken over; the signal's reason when it aborts
   */
  async run(signal: AbortSignal): Promise<void> {
    const stopping = new AbortController()
    const both = AbortSignal.any([signal, stopping.signal])
    const tasks = [this.#plan(both), this.#send(both), this.#beat(both), this.#watch(both)]
    const concluding = this.#conclude(both)
    const failure = new Promise<never>((_, reject) => {
      for (const task of tasks) task.catch(reject)
    })
    try {
      await Promise.race([concluding, failure])
    } finally {
      stopping.abort(new Error('The batch is over.'))
      await Promise.allSettled([...tasks, concluding, this.#earlyFiles])
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
    if (this.#claim.before) await this.#count(signal)
    for (;;) {
      const room = Math.min(this.#deps.window() - this.#work.outstanding.size, sendAtOnce)
      const shards = this.#mayRun ? this.#work.next(room) : []
      if (shards.length === 0) {
        await this.#changes.next(signal)
        continue
      }
      await this.#sendShards(shards, signal)
      this.#work.markSent(shards)
      this.#batch = begun(this.#batch, this.#deps.clock.now())
    }
  }

  async #sendShards(shards: number[], signal: AbortSignal): Promise<void> {
    const { outages, stream } = this.#deps
    const records = shards.map((shard) => encodeShardJob(this.#job(shard)))
    await outages.outlast(() => stream.send(topics.batch, records, { signal }), signal)
  }

  #job(shard: number): ShardJob {
    const { endpoint, model, turbine, expires_at, created_at } = this.#batch
    const maxPrune = turbine.max_prune
    const times = { expiresAt: expires_at * 1000, createdAt: created_at * 1000 }
    const base = { ...this.#ref, endpoint, model, maxPrune, ...times }
    return shardJob(base, this.#work.manifest, shard, this.#work.shards[shard]!)
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
      this.#beginFiles(signal)
      await clock.sleep(beatMs, signal)
      signal.throwIfAborted()
      this.#changes.announce()
    }
  }

  /** Finds shards that are done without a word, and sends those again that seem to be lost. */
  async #watch(signal: AbortSignal): Promise<void> {
    const { clock } = this.#deps
    const patience = new Patience(clock.now())
    for (;;) {
      await clock.sleep(watchMs, signal)
      signal.throwIfAborted()
      if (this.#seal || this.#work.outstanding.size === 0) continue
      const { count, resend } = patience.decide(clock.now(), this.#doneAt)
      if (count) await this.#count(signal)
      if (resend) await this.#sendAgain(signal)
    }
  }

  async #sendAgain(signal: AbortSignal): Promise<void> {
    const lost = [...this.#work.outstanding].filter((shard) => shard < this.#work.shards.length)
    for (let first = 0; first < lost.length && this.#mayRun; first += sendAtOnce) {
      await this.#sendShards(lost.slice(first, first + sendAtOnce), signal)
    }
  }

  /** Counts the shards whose results are in the store. */
  async #count(signal: AbortSignal): Promise<void> {
    const { store, outages } = this.#deps
    const done = (shard: number, tally: ShardTally) => this.shardDone(shard, tally)
    await outages.outlast(() => countShards(store, this.#ref, this.#work, done), signal)
  }

  async #conclude(signal: AbortSignal): Promise<void> {
    const { clock, outages } = this.#deps
    this.#seal ??= await this.#untilOver(signal)
    this.#changes.announce()
    const { ending, errors } = this.#seal
    this.#batch = finalizing(this.#batch, ending, clock.now())
    await outages.outlast(() => this.#record.save(), signal)
    const files = await joinFiles({ ...this.#deps, ...this.#filesOptions(signal), begun: this.#earlyFiles })
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
      if (this.#work.complete) return { ending: 'completed', errors: [] }
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
    await this.#count(signal)
  }

  async #expire(signal: AbortSignal): Promise<void> {
    await this.#untilQuiet(expiryGraceMs, signal)
    const done = (shard: number, tally: ShardTally) => this.shardDone(shard, tally)
    const expire = () => expireShards(this.#missingJobs(), this.#deps, done, signal)
    await this.#deps.outages.outlast(expire, signal)
  }

  *#missingJobs(): Generator<ShardJob> {
    for (const shard of this.#work.missing()) yield this.#job(shard)
  }

  /** Begins the files of a large batch while its shards are still being done. */
  #beginFiles(signal: AbortSignal): void {
    if (this.#seal || this.#earlyFiles || this.#work.sent < earlyFilesShards) return
    const giveBack = this.#deps.takePlace()
    if (!giveBack) return
    this.#earlyFiles = writeFiles(this.#filesOptions(signal), this.#batch.turbine.output_uri)
    // What fails is begun again when all shards are done.
    this.#earlyFiles.catch(() => {}).finally(giveBack)
  }

  #filesOptions(signal: AbortSignal): JoinFilesOptions {
    const { store, buckets } = this.#deps
    const stored = { ...this.#claim.stored, batch: this.#batch }
    return { store, buckets, stored, shards: () => this.#shardsInOrder(signal), signal }
  }

  /** The shards that count, each as soon as it is done. */
  async *#shardsInOrder(signal: AbortSignal): AsyncGenerator<number> {
    const begunEarly = this.#seal === undefined
    for (let shard = 0; !this.#seal || shard < this.#work.doneEnd; shard++) {
      while (!this.#seal && !this.#work.isDone(shard)) await this.#changes.next(signal)
      // Which shards count is certain only once it is kept.
      if (begunEarly && this.#seal && !this.#work.complete) throw new Error('The batch ends early.')
      if (this.#work.isDone(shard)) yield shard
    }
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
