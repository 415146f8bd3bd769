import type { ShardTally } from '../../../edge/contract/shard.ts'
import { ShardSet } from './shard-set.ts'

/** What is kept of repaying, so that another planner can go on with it. */
export interface RepayState {
  /** A `ShardSet`, of those that are done and have pruned lines, or had some. */
  pruned: string
  /** A `ShardSet`, of those that are as good as they get. */
  settled: string
  /** Those that processors were asked for. */
  asked: Ask[]
}

/** A shard that a processor was asked to caption again. */
export interface Ask {
  shard: number
  /** Unix ms; later the processor writes nothing of it any more. */
  until: number
  /** What is counted of the shard. */
  tally: ShardTally
}

/** The shards of a batch whose pruned lines are to be captioned again: which there are, which were asked for. */
export class RepayWork {
  readonly #pruned: ShardSet
  readonly #settled: ShardSet
  readonly #asked: Map<number, Ask>

  /** @param state as another planner left it */
  constructor(state?: RepayState) {
    this.#pruned = ShardSet.parse(state?.pruned ?? '')
    this.#settled = ShardSet.parse(state?.settled ?? '')
    this.#asked = new Map(state?.asked.map((ask) => [ask.shard, ask]))
  }

  /** Whether there is anything left to ask for, or asked for. */
  get open(): boolean {
    return this.#settled.size < this.#pruned.size
  }

  /** Whether a shard was ever asked for. */
  get begun(): boolean {
    return this.#asked.size > 0 || this.#settled.size > 0
  }

  get asked(): number {
    return this.#asked.size
  }

  /** A shard is done, and lines of it are pruned. */
  add(shard: number): void {
    this.#pruned.add(shard)
  }

  /** The next shards to ask for, at most `count`, lowest first. */
  next(count: number): number[] {
    const shards: number[] = []
    for (let shard = 0; shard < this.#pruned.end && shards.length < count; shard++) {
      const waits = this.#pruned.has(shard) && !this.#settled.has(shard) && !this.#asked.has(shard)
      if (waits) shards.push(shard)
    }
    return shards
  }

  ask(ask: Ask): void {
    this.#asked.set(ask.shard, ask)
  }

  /**
   * A shard that was asked for is answered. With `pending` lines that were not tried it is to be asked for again.
   * @returns what was counted of it until now; undefined for an answer that is old, or came before
   */
  answer(shard: number, tally: ShardTally, pending: number): ShardTally | undefined {
    const ask = this.#asked.get(shard)
    if (!ask || (tally.repaid ?? 0) < (ask.tally.repaid ?? 0)) return undefined
    if (pending === 0) this.settle(shard)
    else this.#asked.delete(shard)
    return ask.tally
  }

  /** A shard needs no more than it has. */
  settle(shard: number): void {
    this.#asked.delete(shard)
    this.#settled.add(shard)
  }

  /** Shards that were asked for and can be answered no more, at `now`, unix ms. */
  overdue(now: number): number[] {
    return [...this.#asked.values()].filter(({ until }) => until < now).map(({ shard }) => shard)
  }

  /** Undefined when no line was pruned. */
  toState(): RepayState | undefined {
    if (this.#pruned.size === 0) return undefined
    return {
      pruned: this.#pruned.toString(),
      settled: this.#settled.toString(),
      asked: [...this.#asked.values()],
    }
  }
}
