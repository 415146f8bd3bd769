import pLimit from 'p-limit'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import { readShard, type StoredShard } from '../shard/results.ts'
import type { BatchContext } from './context.ts'
import { sendShards } from './shard-sender.ts'
import { dueAt } from './status.ts'

/** Time that a processor has for a requested shard, ms; then the shard is requested again. */
const leaseMs = 2 * 60_000
/** Minimum time left to request a shard, ms. */
const leastLeaseMs = 20_000
/** Allowance for clock skew and for writes in progress, ms. */
const graceMs = 5_000
const readsAtOnce = 16

/**
 * Has the pruned lines of a finished batch captioned again at full quality: requests a few shards at a time, as many as
 * processors have time for. A shard keeps its results until better ones are written.
 */
export class Repayment {
  readonly #context: BatchContext
  readonly #window = new RepayWindow()
  /** Deadline, unix ms. */
  readonly #until: number

  constructor(context: BatchContext) {
    this.#context = context
    this.#until = dueAt(context.state.batch)
  }

  /** True while there are pruned lines, and time for them. */
  get worthwhile(): boolean {
    const { state, clock } = this.#context
    return this.#isWanted && state.work.repay.open && clock.now() < this.#until - leastLeaseMs
  }

  get #isWanted(): boolean {
    const { repay, state } = this.#context
    return repay === true && !state.cancelled
  }

  /**
   * Counts a processor's answer.
   * @param answer `pending`: lines not tried, because the devices had other work
   */
  answered({ shard, tally, pending }: { shard: number; tally: ShardTally; pending: number }): void {
    const { state, clock } = this.#context
    if (!state.work.repaid(shard, tally, pending)) return
    if (pending > 0) this.#window.shrink(clock.now())
    else this.#window.grow()
    state.changes.announce()
  }

  /**
   * Resolves when all possible lines are repaid, time is up, or the batch is cancelled; no processor writes results of
   * the batch after that.
   * @throws OwnershipLostError; the signal's reason when it aborts
   */
  async run(): Promise<void> {
    const { state, clock, signal } = this.#context
    const { work } = state
    while (this.worthwhile) {
      await this.#findOverdue()
      const room = this.#window.size(clock.now()) - work.repay.asked
      const shards = work.planned ? work.repay.next(room) : []
      if (shards.length > 0) await this.#ask(shards)
      else await state.changes.next(signal)
    }
    await this.#untilQuiet()
  }

  async #ask(shards: number[]): Promise<void> {
    const { state, record, clock, outages, signal } = this.#context
    const { repay } = state.work
    const limit = pLimit(readsAtOnce)
    const tallies = new Map<number, ShardTally>()
    const read = async (shard: number) => {
      const stored = await this.#read(shard)
      // Nothing to do for a shard that is gone, or has no pruned lines left.
      if (stored?.tally.pruned) tallies.set(shard, stored.tally)
      else repay.settle(shard)
    }
    await limit.map(shards, read)
    if (tallies.size === 0) return
    const until = Math.min(clock.now() + leaseMs, this.#until)
    for (const [shard, tally] of tallies) repay.ask({ shard, until, tally })
    // A planner that takes over needs the counted tally of a shard that changes.
    await outages.outlast(() => record.save(), signal)
    await sendShards(this.#context, [...tallies.keys()], { until })
  }

  /** Reads overdue shards from the store. */
  async #findOverdue(): Promise<void> {
    const { state, clock } = this.#context
    for (const shard of state.work.repay.overdue(clock.now() - graceMs)) {
      const stored = await this.#read(shard)
      if (stored) this.answered({ shard, ...stored, pending: stored.tally.pruned ?? 0 })
      else state.work.repay.settle(shard)
    }
  }

  #read(shard: number): Promise<StoredShard | undefined> {
    const { outages, store, state, signal } = this.#context
    return outages.outlast(() => readShard(store, { ...state.ref, shard }), signal)
  }

  async #untilQuiet(): Promise<void> {
    const { state, clock, signal } = this.#context
    const { repay } = state.work
    if (repay.asked === 0) return
    const end = this.#isWanted ? this.#until + graceMs : clock.now() + graceMs
    while (repay.asked > 0 && clock.now() < end) await state.changes.next(signal)
  }
}

const leastAsked = 2
const mostAsked = 1_000
/** Pause after an answer of busy processors, ms. */
const restMs = 10_000

/**
 * Maximum shards of a batch requested at a time, adapted to idle capacity by additive increase, multiplicative
 * decrease: one more for each complete shard, half as many for one with lines that no device had time for.
 */
export class RepayWindow {
  #size = leastAsked
  #restUntil = 0

  /** At `now`, unix ms. */
  size(now: number): number {
    return now < this.#restUntil ? 0 : this.#size
  }

  grow(): void {
    this.#size = Math.min(this.#size + 1, mostAsked)
  }

  shrink(now: number): void {
    // Concurrent answers count once.
    if (now >= this.#restUntil) this.#size = Math.max(this.#size >> 1, leastAsked)
    this.#restUntil = now + restMs
  }
}
