import pLimit from 'p-limit'
import type { Repay, ShardTally } from '../../../edge/contract/shard.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import type { Clock, Outages } from '../../delivery/outages.ts'
import { readShard } from '../shard/results.ts'
import type { BatchRef } from './lease.ts'
import type { BatchWork, Changes } from './progress.ts'

/** A processor has so long for a shard, from when it was asked, ms; then the shard is asked for again. */
const leaseMs = 2 * 60_000
/** With less time than this left nothing is begun, ms. */
const leastLeaseMs = 20_000
/** Clocks differ, and what is being written takes a moment, ms. */
const graceMs = 5_000
const readsAtOnce = 16

export interface RepaymentOptions {
  ref: BatchRef
  work: BatchWork
  changes: Changes
  store: ObjectStore
  clock: Clock
  outages: Outages
  /** When it is to be over, unix ms. */
  until: number
  /** Whether the service repays, and nobody has asked the batch to stop. */
  goesOn(): boolean
  /** Keeps how far the batch is. */
  save(): Promise<void>
  /** Asks processors for shards. */
  send(shards: number[], repay: Repay, signal: AbortSignal): Promise<void>
}

/**
 * Has the pruned lines of a batch captioned again at full quality when all of its shards are done: asks processors for
 * a few shards at a time, as many as they have time for. What a shard was before stays where nothing better comes.
 */
export class Repayment {
  readonly #options: RepaymentOptions
  readonly #window = new RepayWindow()

  constructor(options: RepaymentOptions) {
    this.#options = options
  }

  /** Whether there are pruned lines and time for them. */
  get worthwhile(): boolean {
    const { work, clock, until, goesOn } = this.#options
    return goesOn() && work.repay.open && clock.now() < until - leastLeaseMs
  }

  /**
   * A processor has answered.
   * @param pending lines that were not tried, for the devices had other work
   */
  answered(shard: number, tally: ShardTally, pending: number): void {
    const { work, changes, clock } = this.#options
    if (!work.repaid(shard, tally, pending)) return
    if (pending > 0) this.#window.shrink(clock.now())
    else this.#window.grow()
    changes.announce()
  }

  /**
   * Resolves when every line is repaid that can be, or there is no more time, or somebody wants the batch to stop; then
   * no processor writes anything of the batch any more.
   * @throws OwnershipLostError; the signal's reason when it aborts
   */
  async run(signal: AbortSignal): Promise<void> {
    const { work, changes, clock } = this.#options
    while (this.worthwhile) {
      await this.#lookAfterOverdue(signal)
      const room = this.#window.size(clock.now()) - work.repay.asked
      const shards = work.planned ? work.repay.next(room) : []
      if (shards.length > 0) await this.#ask(shards, signal)
      else await changes.next(signal)
    }
    await this.#untilQuiet(signal)
  }

  async #ask(shards: number[], signal: AbortSignal): Promise<void> {
    const { clock, outages, until, work, save, send } = this.#options
    const tallies = await this.#read(shards, signal)
    if (tallies.size === 0) return
    const lease = Math.min(clock.now() + leaseMs, until)
    for (const [shard, tally] of tallies) work.repay.ask({ shard, until: lease, tally })
    // Whoever takes over must know what was counted of a shard that changes.
    await outages.outlast(save, signal)
    await send([...tallies.keys()], { until: lease }, signal)
  }

  /** What is stored of shards now. One that is gone, or has no pruned lines any more, needs nothing. */
  async #read(shards: number[], signal: AbortSignal): Promise<Map<number, ShardTally>> {
    const { outages, ref, store, work } = this.#options
    const limit = pLimit(readsAtOnce)
    const tallies = new Map<number, ShardTally>()
    const read = async (shard: number) => {
      const stored = await outages.outlast(() => readShard(store, { ...ref, shard }), signal)
      if (stored?.tally.pruned) tallies.set(shard, stored.tally)
      else work.repay.settle(shard)
    }
    await limit.map(shards, read)
    return tallies
  }

  /** Finds what came of shards of which nothing was heard. */
  async #lookAfterOverdue(signal: AbortSignal): Promise<void> {
    const { clock, work, outages, store, ref } = this.#options
    for (const shard of work.repay.overdue(clock.now() - graceMs)) {
      const stored = await outages.outlast(() => readShard(store, { ...ref, shard }), signal)
      if (stored) this.answered(shard, stored.tally, stored.tally.pruned ?? 0)
      else work.repay.settle(shard)
    }
  }

  async #untilQuiet(signal: AbortSignal): Promise<void> {
    const { clock, work, until, goesOn, changes } = this.#options
    if (work.repay.asked === 0) return
    if (!goesOn()) return clock.sleep(graceMs, signal)
    while (work.repay.asked > 0 && clock.now() < until + graceMs) await changes.next(signal)
  }
}

const leastAsked = 2
const mostAsked = 1_000
/** Busy processors are left alone for so long, ms. */
const restMs = 10_000

/**
 * Shards that a batch may have asked processors to caption again. They take what nobody else needs, and how much that
 * is shows only in the asking: one more with each shard that comes back whole, half as many when one comes back with
 * lines for which no device had time.
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
    // Several that come back at a time say the same thing.
    if (now >= this.#restUntil) this.#size = Math.max(this.#size >> 1, leastAsked)
    this.#restUntil = now + restMs
  }
}
