import pLimit from 'p-limit'
import type { Batch } from '../../../edge/contract/batch.ts'
import { encodeShardJob, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import { topics } from '../../../edge/contract/topics.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import { listShards, readShard } from '../shard/results.ts'
import type { RunDeps } from './deps.ts'
import type { BatchRef } from './lease.ts'
import { shardJob } from './plan.ts'
import type { BatchWork, Changes } from './progress.ts'
import { dueAt } from './status.ts'

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

/** Work for about this long is in the stream: enough that no processor waits for a planner, seconds. */
const horizonSeconds = 30
const leastInStream = 16
const mostInStream = 10_000
/** Every batch gets some, however many there are. */
const leastShare = 2
/** Share of the window that is given by need; the rest is shared equally, so that small batches get through. */
const needShare = 0.5

export interface SendWindowOptions {
  /** Shards that the processors finish, over all batches. */
  shardsPerSecond: number
  /** Lines per second that this batch takes to be done in time. */
  need: number
  /** The batches that have shards to send, this one among them. */
  senders: Senders
}

export interface Senders {
  batches: number
  /** Sum of what they need, lines per second. */
  need: number
}

/**
 * Shards that one batch may have in the stream. What is sent first is done first, so a batch may not fill the stream:
 * a small one that comes later waits for no more than what the others have sent, and one that is pressed for time has
 * more there than one that has plenty.
 */
export function sendWindow({ shardsPerSecond, need, senders }: SendWindowOptions): number {
  const total = Math.min(Math.max(shardsPerSecond * horizonSeconds, leastInStream), mostInStream)
  const equal = 1 / Math.max(senders.batches, 1)
  const byNeed = senders.need === 0 ? equal : Math.min(need / senders.need, 1)
  return Math.max(Math.ceil(total * (equal + needShare * (byNeed - equal))), leastShare)
}

/** Without a word of a shard for so long, the store is asked, ms. */
const quietMs = 10_000
/** However much is heard, the store is asked so often, since words can be lost, ms. */
const countMs = 60_000
/** Without a shard done for so long, shards are sent again; twice as long the next time, ms. */
const resendMs = 10 * 60_000

/** Decides when shards that were sent and are not done are looked for, and when they are sent again. */
export class Patience {
  #countedAt: number
  #resentAt: number
  #resendMs = resendMs

  /** @param now unix ms, as below */
  constructor(now: number) {
    this.#countedAt = now
    this.#resentAt = now
  }

  /**
   * What is to be done now; it counts as done.
   * @param doneAt when the last shard was done
   */
  decide(now: number, doneAt: number): { count: boolean; resend: boolean } {
    if (doneAt > this.#resentAt) this.#resendMs = resendMs
    const resend = now - Math.max(doneAt, this.#resentAt) >= this.#resendMs
    // Before anything is sent again, it is looked for.
    const count = resend || now - doneAt >= quietMs || now - this.#countedAt >= countMs
    if (count) this.#countedAt = now
    if (resend) {
      this.#resentAt = now
      this.#resendMs *= 2
    }
    return { count, resend }
  }
}

const readsAtOnce = 16

/**
 * Counts the shards whose results are in the store and that are not known to be done.
 * @throws StoreUnavailableError; what was counted until then is counted
 */
async function countShards(
  store: ObjectStore,
  ref: BatchRef,
  work: Pick<BatchWork, 'firstMissing' | 'isDone'>,
  onDone: (shard: number, tally: ShardTally) => void,
): Promise<void> {
  const limit = pLimit(readsAtOnce)
  const count = async (shard: number) => {
    const stored = await readShard(store, { ...ref, shard })
    if (stored) onDone(shard, stored.tally)
  }
  const uncounted: number[] = []
  for await (const shard of listShards(store, ref, work.firstMissing)) {
    if (!work.isDone(shard)) uncounted.push(shard)
  }
  await limit.map(uncounted, count)
}
