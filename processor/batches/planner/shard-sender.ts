import type { Batch } from '../../../edge/contract/batch.ts'
import { encodeShardJob, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import { topics } from '../../../edge/contract/topics.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import type { BatchRef } from './batch-ref.ts'
import type { Changes } from './changes.ts'
import { countShards } from './count-shards.ts'
import type { RunDeps } from './deps.ts'
import { dueAt } from './due.ts'
import { Patience } from './patience.ts'
import { shardJob } from './plan.ts'
import type { BatchWork } from './progress.ts'

/** Shards that are sent together at most. */
const sendAtOnce = 100
/** How often it is decided whether to look for shards, ms. */
const watchMs = 5_000

export interface ShardSenderOptions
  extends Pick<RunDeps, 'store' | 'stream' | 'clock' | 'outages' | 'window'> {
  ref: BatchRef
  /** As it was made. */
  batch: Batch
  work: BatchWork
  changes: Changes
  /** Whether lines may be run. */
  mayRun(): boolean
  /** When the last shard was done, unix ms. */
  doneAt(): number
  /** Told of shards whose results were found in the store. */
  onDone(shard: number, tally: ShardTally): void
  onSent(): void
}

/** Sends the shards of a batch to the processors, and sees to it that each comes to an end. */
export class ShardSender {
  readonly #options: ShardSenderOptions

  constructor(options: ShardSenderOptions) {
    this.#options = options
  }

  /** Sends what there is to send, as many shards as the batch may have in the stream, until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    const { work, changes, mayRun, onSent, window } = this.#options
    for (;;) {
      const room = Math.min(window(this.#needed) - work.outstanding.size, sendAtOnce)
      const shards = mayRun() ? work.next(room) : []
      if (shards.length === 0) {
        await changes.next(signal)
        continue
      }
      await this.send(shards, signal)
      work.markSent(shards)
      onSent()
    }
  }

  /** Finds shards that are done without a word, and sends those again that seem to be lost, until the signal aborts. */
  async watch(signal: AbortSignal): Promise<void> {
    const { clock, work, doneAt } = this.#options
    const patience = new Patience(clock.now())
    for (;;) {
      await clock.sleep(watchMs, signal)
      signal.throwIfAborted()
      if (work.outstanding.size === 0) continue
      const { count, resend } = patience.decide(clock.now(), doneAt())
      if (count) await this.count(signal)
      if (resend) await this.#sendAgain(signal)
    }
  }

  /** Counts the shards whose results are in the store. */
  async count(signal: AbortSignal): Promise<void> {
    const { store, outages, ref, work, onDone } = this.#options
    await outages.outlast(() => countShards(store, ref, work, onDone), signal)
  }

  /** Sends these shards now. */
  async send(shards: number[], signal: AbortSignal, change: Pick<ShardJob, 'repay'> = {}): Promise<void> {
    const { outages, stream } = this.#options
    const records = shards.map((shard) => encodeShardJob({ ...this.job(shard), ...change }))
    await outages.outlast(() => stream.send(topics.batch, records, { signal }), signal)
  }

  job(shard: number): ShardJob {
    const { ref, batch, work } = this.#options
    const { endpoint, model, turbine, expires_at, created_at } = batch
    const maxPrune = turbine.max_prune
    const times = { expiresAt: expires_at * 1000, createdAt: created_at * 1000 }
    const base = { ...ref, endpoint, model, maxPrune, ...times }
    return shardJob(base, work.manifest, shard, work.shards[shard]!)
  }

  /** Lines per second that it takes to be done in time. */
  get #needed(): number {
    const { batch, work, clock } = this.#options
    return pressingRate([{ deadline: dueAt(batch), images: work.linesLeft }], clock.now())
  }

  async #sendAgain(signal: AbortSignal): Promise<void> {
    const { work, mayRun } = this.#options
    const lost = [...work.outstanding].filter((shard) => shard < work.shards.length)
    for (let first = 0; first < lost.length && mayRun(); first += sendAtOnce) {
      await this.send(lost.slice(first, first + sendAtOnce), signal)
    }
  }
}
