import type { ShardTally } from '../../../edge/contract/shard.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import type { PlannedShard } from './plan.ts'
import type { Plan } from './plan-file.ts'
import { type RepayState, RepayWork } from './repay-work.ts'
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
  /** Absent when no line was pruned. */
  repay?: RepayState
}

export const emptyTally: Required<ShardTally> = {
  completed: 0,
  failed: 0,
  dropped: 0,
  pruneRatioSum: 0,
  inputTokens: 0,
  outputTokens: 0,
  pruned: 0,
  repaid: 0,
}

/** The sum of what came of several shards. */
export const addTallies = (a: ShardTally, b: ShardTally) => combine(a, b, 1)

const combine = (a: ShardTally, b: ShardTally, sign: 1 | -1): Required<ShardTally> => {
  const sum = { ...emptyTally }
  for (const field of tallyFields) sum[field] = (a[field] ?? 0) + sign * (b[field] ?? 0)
  return sum
}

const tallyFields = Object.keys(emptyTally) as (keyof ShardTally)[]

/** The shards of a batch: which there are, which were sent, which are done, which are to be captioned again. */
export class BatchWork {
  /** Where the manifest lies. */
  manifest: readonly Slice[] = []
  /** Lines that can be run, as far as the manifest was read. */
  usable = 0
  /** Whether the manifest has been read to its end. */
  planned = false
  readonly repay: RepayWork
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
    this.repay = new RepayWork(state?.repay)
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

  /** Lines without a result that can be run, as far as is known; those that are at fault may count until they are met. */
  get linesLeft(): number {
    const { completed, failed, dropped } = this.#tally
    return Math.max(0, Math.min(this.usable, this.#lines - completed - failed - dropped))
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

  /** Whether every shard is done; known without the plan where repaying has begun, which is when all are. */
  get complete(): boolean {
    if (this.repay.begun) return true
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
    if (tally.pruned) this.repay.add(shard)
    return true
  }

  /**
   * A processor has answered for a shard whose pruned lines were to be captioned again.
   * @param pending lines that were not tried
   * @returns false when nobody waited for it
   */
  repaid(shard: number, tally: ShardTally, pending: number): boolean {
    const before = this.repay.answer(shard, tally, pending)
    if (!before) return false
    this.#tally = addTallies(combine(this.#tally, before, -1), tally)
    return true
  }

  /** Shards of the plan that are not done. */
  *missing(): Generator<number> {
    for (let shard = this.#done.firstMissing; shard < this.#shards.length; shard++) {
      if (!this.#done.has(shard)) yield shard
    }
  }

  toState(): WorkState {
    return {
      lines: this.#lines,
      sent: this.#sent,
      done: this.#done.toString(),
      tally: this.#tally,
      repay: this.repay.toState(),
    }
  }
}
