import { addTallies, emptyTally, type ShardTally, subtractTallies } from '../../../edge/contract/shard.ts'
import type { Slice } from '../../../infra/store/slices.ts'
import { unlessAborted } from '../../../infra/timing.ts'
import type { Plan, PlannedShard } from './plan.ts'

/** Stored form of `BatchWork`, from which another planner can resume. */
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

/** Shards of a batch: planned, sent, done, and to be captioned again. */
export class BatchWork {
  /** Location of the manifest. */
  manifest: readonly Slice[] = []
  /** Lines that can be run, as far as the manifest was read. */
  usable = 0
  /** Set when the manifest has been read to its end. */
  planned = false
  shards: PlannedShard[] = []
  /** Lines that are not empty; grows while the manifest is read. */
  lines: number
  /** Shards below this number were sent, or were done before they could be. */
  sent: number
  readonly done: ShardSet
  /** Of the shards that are sent, those that wait for slow hosts, as far as this planner has heard of it. */
  readonly waiting = new Set<number>()
  /** Sum over the shards that are done. */
  tally: ShardTally
  readonly repay: RepayWork

  /** @param state as another planner left it */
  constructor(state?: WorkState) {
    this.lines = state?.lines ?? 0
    this.sent = state?.sent ?? 0
    this.done = ShardSet.parse(state?.done ?? '')
    this.tally = state?.tally ?? emptyTally
    this.repay = new RepayWork(state?.repay)
  }

  /** Runnable lines without a result, as far as known; may include invalid lines not yet found. */
  get linesLeft(): number {
    const { completed, failed, dropped } = this.tally
    return Math.max(0, Math.min(this.usable, this.lines - completed - failed - dropped))
  }

  /** Shards that were sent and are not done. */
  get outstanding(): number[] {
    return [...this.done.missing(0, this.sent)]
  }

  /** True when every shard is done; known without the plan once repaying has begun. */
  get complete(): boolean {
    if (this.repay.begun) return true
    return this.planned && this.done.firstMissing >= this.shards.length
  }

  /** Adds planned shards. `lines`: found so far. */
  plan(shards: readonly PlannedShard[], lines: number): void {
    for (const shard of shards) this.shards.push(shard)
    // A planner that reads the manifest again starts behind the previous one.
    this.lines = Math.max(this.lines, lines)
  }

  /** Loads a stored plan. */
  load({ manifest, shards, lines, usable }: Plan): void {
    this.manifest = manifest
    this.shards = [...shards]
    this.lines = lines
    this.usable = usable
    this.planned = true
  }

  /** The next shards to send, at most `count`: lowest first, none that is done. */
  next(count: number): number[] {
    return take(count, this.done.missing(this.sent, this.shards.length))
  }

  /** Marks shards from `next` as sent. */
  markSent(shards: number[]): void {
    this.sent = Math.max(this.sent, (shards.at(-1) ?? -1) + 1)
  }

  /** Notes that a shard waits for slow hosts. */
  wait(shard: number): void {
    if (!this.done.has(shard)) this.waiting.add(shard)
  }

  /** Marks a shard as done; false when it was already. */
  finish(shard: number, tally: ShardTally): boolean {
    this.waiting.delete(shard)
    if (!this.done.add(shard)) return false
    this.tally = addTallies(this.tally, tally)
    if (tally.pruned) this.repay.add(shard)
    return true
  }

  /**
   * Counts a processor's answer for a repaid shard.
   * @param pending lines that were not tried
   * @returns false for an unexpected answer
   */
  repaid(shard: number, tally: ShardTally, pending: number): boolean {
    const before = this.repay.answer(shard, tally, pending)
    if (!before) return false
    this.tally = addTallies(subtractTallies(this.tally, before), tally)
    return true
  }

  /** Shards of the plan that are not done. */
  missing(): Generator<number> {
    return this.done.missing(0, this.shards.length)
  }

  toState(): WorkState {
    const { lines, sent, done, tally, repay } = this
    return { lines, sent, done: done.toString(), tally, repay: repay.toState() }
  }
}

function take(count: number, shards: Iterable<number>): number[] {
  const taken: number[] = []
  if (count <= 0) return taken
  for (const shard of shards) if (taken.push(shard) >= count) break
  return taken
}

/**
 * Lets tasks wait for each other's progress.
 * @example while (!isDone()) await changes.next(signal)
 */
export class Changes {
  #next = Promise.withResolvers<void>()

  /** Wakes all waiting tasks. */
  announce(): void {
    this.#next.resolve()
    this.#next = Promise.withResolvers()
  }

  /**
   * Resolves at the next announcement.
   * @throws the signal's reason when it aborts
   */
  next(signal: AbortSignal): Promise<void> {
    return unlessAborted(this.#next.promise, signal)
  }
}

const initialBytes = 32

/** Set of shard numbers, one bit each. */
export class ShardSet {
  #bits = new Uint8Array(initialBytes)
  /** The lowest number that is not in the set. */
  firstMissing = 0
  size = 0

  static parse(text: string): ShardSet {
    const set = new ShardSet()
    const bytes = Buffer.from(text, 'base64')
    for (let shard = 0; shard < bytes.length * 8; shard++) {
      if (bytes[shard >> 3]! & (1 << (shard & 7))) set.add(shard)
    }
    return set
  }

  /** One above the highest number in the set. */
  get end(): number {
    let end = this.#bits.length * 8
    while (end > this.firstMissing && !this.has(end - 1)) end--
    return end
  }

  /** Numbers from `from` to before `to` that are not in the set, ascending. */
  *missing(from: number, to: number): Generator<number> {
    for (let shard = Math.max(from, this.firstMissing); shard < to; shard++) if (!this.has(shard)) yield shard
  }

  has(shard: number): boolean {
    return ((this.#bits[shard >> 3] ?? 0) & (1 << (shard & 7))) !== 0
  }

  /** False when it is there already. */
  add(shard: number): boolean {
    if (this.has(shard)) return false
    if (shard >> 3 >= this.#bits.length) this.#grow(shard)
    this.#bits[shard >> 3]! |= 1 << (shard & 7)
    this.size++
    while (this.has(this.firstMissing)) this.firstMissing++
    return true
  }

  /** In base64. */
  toString(): string {
    return Buffer.from(this.#bits.subarray(0, Math.ceil(this.end / 8))).toString('base64')
  }

  #grow(shard: number): void {
    const bits = new Uint8Array(Math.max(this.#bits.length * 2, (shard >> 3) + 1))
    bits.set(this.#bits)
    this.#bits = bits
  }
}

/** Stored form of `RepayWork`. */
export interface RepayState {
  /** `ShardSet` of done shards that have, or had, pruned lines. */
  pruned: string
  /** `ShardSet` of shards that stay as they are. */
  settled: string
  /** Requested shards. */
  asked: Ask[]
}

/** Request to a processor to caption a shard again. */
export interface Ask {
  shard: number
  /** Deadline of the processor, unix ms. */
  until: number
  /** Tally counted for the shard. */
  tally: ShardTally
}

/** Shards of a batch whose pruned lines are to be captioned again. */
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

  /** True while shards are left to request, or requested. */
  get open(): boolean {
    return this.#settled.size < this.#pruned.size
  }

  /** True once a shard was requested. */
  get begun(): boolean {
    return this.#asked.size > 0 || this.#settled.size > 0
  }

  get asked(): number {
    return this.#asked.size
  }

  /** Adds a shard that is done and has pruned lines. */
  add(shard: number): void {
    this.#pruned.add(shard)
  }

  /** The next shards to request, at most `count`, lowest first. */
  next(count: number): number[] {
    return take(count, this.#waiting())
  }

  *#waiting(): Generator<number> {
    for (const shard of this.#settled.missing(0, this.#pruned.end)) {
      if (this.#pruned.has(shard) && !this.#asked.has(shard)) yield shard
    }
  }

  ask(ask: Ask): void {
    this.#asked.set(ask.shard, ask)
  }

  /**
   * Takes the answer for a requested shard. With `pending` lines it is requested again.
   * @returns the tally counted for it so far; undefined for an outdated or repeated answer
   */
  answer(shard: number, tally: ShardTally, pending: number): ShardTally | undefined {
    const ask = this.#asked.get(shard)
    if (!ask || (tally.repaid ?? 0) < (ask.tally.repaid ?? 0)) return undefined
    if (pending === 0) this.settle(shard)
    else this.#asked.delete(shard)
    return ask.tally
  }

  /** Marks a shard as final. */
  settle(shard: number): void {
    this.#asked.delete(shard)
    this.#settled.add(shard)
  }

  /** Requested shards past their deadline at `now`, unix ms. */
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
