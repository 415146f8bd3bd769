import type { ShardTally } from '../../edge/contract/shard.ts'
import type { Slice } from '../../infra/store/slices.ts'
import type { PlannedShard } from './plan.ts'
import type { Plan } from './plan-file.ts'
import { ShardSet } from './shard-set.ts'

/** What is kept of a batch's work, so that another planner can go on with it. */
export interface WorkState {
  /** Lines found so far. */
  lines: number
  /** Shards below this number were sent, or were done before they could be. */
  sent: number
  /** A `ShardSet`. */
  done: string
  /** Of the shards that are done. */
  tally: ShardTally
}

export const emptyTally: ShardTally = {
  completed: 0,
  failed: 0,
  dropped: 0,
  pruneRatioSum: 0,
  inputTokens: 0,
  outputTokens: 0,
}

/** The sum of what came of several shards. */
export const addTallies = (a: ShardTally, b: ShardTally): ShardTally => ({
  completed: a.completed + b.completed,
  failed: a.failed + b.failed,
  dropped: a.dropped + b.dropped,
  pruneRatioSum: a.pruneRatioSum + b.pruneRatioSum,
  inputTokens: a.inputTokens + b.inputTokens,
  outputTokens: a.outputTokens + b.outputTokens,
})

/** The shards of a batch: which there are, which were sent, which are done. */
export class BatchWork {
  /** Where the manifest lies. */
  manifest: readonly Slice[] = []
  /** Lines that can be run, as far as the manifest was read. */
  usable = 0
  /** Whether the manifest has been read to its end. */
  planned = false
  #shards: PlannedShard[] = []
  #lines: number
  #sent: number
  readonly #done: ShardSet
  #tally: ShardTally
  readonly #outstanding = new Set<number>()

  /** @param state as another planner left it */
  constructor(state?: WorkState) {
    this.#lines = state?.lines ?? 0
    this.#sent = state?.sent ?? 0
    this.#done = ShardSet.parse(state?.done ?? '')
    this.#tally = state?.tally ?? emptyTally
    for (let shard = this.#done.firstMissing; shard < this.#sent; shard++) {
      if (!this.#done.has(shard)) this.#outstanding.add(shard)
    }
  }

  get shards(): readonly PlannedShard[] {
    return this.#shards
  }

  /** Lines that are not empty; grows while the manifest is read. */
  get lines(): number {
    return this.#lines
  }

  /** Sum over the shards that are done. */
  get tally(): ShardTally {
    return this.#tally
  }

  /** Shards that were sent and are not done. */
  get outstanding(): ReadonlySet<number> {
    return this.#outstanding
  }

  get sent(): number {
    return this.#sent
  }

  /** The lowest shard that is not done. */
  get firstMissing(): number {
    return this.#done.firstMissing
  }

  /** Whether every shard is done. */
  get complete(): boolean {
    return this.planned && this.#done.firstMissing >= this.#shards.length
  }

  isDone(shard: number): boolean {
    return this.#done.has(shard)
  }

  /** Behind the highest shard that is done. */
  get doneEnd(): number {
    return this.#done.end
  }

  /** Adds what the manifest has been cut into. `lines`: those found so far. */
  plan(shards: readonly PlannedShard[], lines: number): void {
    for (const shard of shards) this.#shards.push(shard)
    // A planner that reads the manifest again has not come as far as the one before.
    this.#lines = Math.max(this.#lines, lines)
  }

  /** Takes over the plan of a manifest that was read to its end. */
  load({ manifest, shards, lines, usable }: Plan): void {
    this.manifest = manifest
    this.#shards = [...shards]
    this.#lines = lines
    this.usable = usable
    this.planned = true
  }

  /** The next shards to send, at most `count`: lowest first, none that is done. */
  next(count: number): number[] {
    const shards: number[] = []
    for (let shard = this.#sent; shard < this.#shards.length && shards.length < count; shard++) {
      if (!this.#done.has(shard)) shards.push(shard)
    }
    return shards
  }

  /** What `next` gave was sent. */
  markSent(shards: number[]): void {
    for (const shard of shards) if (!this.#done.has(shard)) this.#outstanding.add(shard)
    this.#sent = Math.max(this.#sent, (shards.at(-1) ?? -1) + 1)
  }

  /** A shard is done; false when it was already. */
  finish(shard: number, tally: ShardTally): boolean {
    if (!this.#done.add(shard)) return false
    this.#outstanding.delete(shard)
    this.#tally = addTallies(this.#tally, tally)
    return true
  }

  /** Shards of the plan that are not done. */
  *missing(): Generator<number> {
    for (let shard = this.#done.firstMissing; shard < this.#shards.length; shard++) {
      if (!this.#done.has(shard)) yield shard
    }
  }

  toState(): WorkState {
    return { lines: this.#lines, sent: this.#sent, done: this.#done.toString(), tally: this.#tally }
  }
}
