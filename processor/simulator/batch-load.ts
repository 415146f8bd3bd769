import type { BatchBacklog } from '../../edge/contract/backlog.ts'

/** A batch that runs beside the interactive requests. Times are ms. */
export interface BatchOptions {
  lines: number
  /** When it is submitted, since the trace began; default 0. */
  at?: number
  /** Time in which it is to be done. */
  windowMs: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
}

/** Consecutive lines of a batch: done as a whole, or again as a whole. */
export interface Shard {
  batch: BatchRun
  /** From 0. */
  index: number
  lines: number
  /** Lines that were handed to the device or are on their way to it. */
  begun: number
  /** What came of the lines that are done. */
  levels: number[]
  /** How often it was begun. */
  attempt: number
}

/** Lines of a shard at most, as the planner cuts them. */
const linesPerShard = 256

/**
 * A batch under way: shards that nobody has in hand, and what is done. Whoever has room takes the next shard; in a real
 * fleet the shards lie spread over the partitions, and the planner sends about as fast as they come back.
 */
export class BatchRun {
  readonly at: number
  readonly deadline: number
  readonly maxPrune: number
  readonly lines: number
  /** How many of the lines that are done were run at each level. */
  readonly linesAtLevel: number[]
  linesDone = 0
  doneAt: number | undefined
  readonly #open: Shard[]

  constructor({ lines, at = 0, windowMs, maxPrune = 1 }: BatchOptions, levels: number) {
    this.lines = lines
    this.at = at
    this.deadline = at + windowMs
    this.maxPrune = maxPrune
    this.linesAtLevel = new Array<number>(levels).fill(0)
    this.#open = Array.from({ length: Math.ceil(lines / linesPerShard) }, (_, index) => ({
      batch: this,
      index,
      lines: Math.min(linesPerShard, lines - index * linesPerShard),
      begun: 0,
      levels: [],
      attempt: 0,
    }))
  }

  /** What a planner tells of it. */
  get pace(): BatchBacklog {
    const { deadline, maxPrune, lines, linesDone } = this
    return { batch: 'batch', deadline, maxPrune, linesLeft: lines - linesDone }
  }

  /** A shard that nobody has in hand; undefined when there is none. */
  take(now: number): Shard | undefined {
    return now < this.at ? undefined : this.#open.pop()
  }

  /** Whoever had the shard in hand is gone: it begins anew elsewhere. */
  giveBack(shard: Shard): void {
    shard.begun = 0
    shard.levels = []
    shard.attempt++
    this.#open.push(shard)
  }

  /** A line of the shard was run at `level`. */
  lineDone(shard: Shard, level: number, now: number): void {
    shard.levels.push(level)
    if (shard.levels.length < shard.lines) return
    for (const each of shard.levels) this.linesAtLevel[each]!++
    this.linesDone += shard.lines
    if (this.linesDone === this.lines) this.doneAt = now
  }
}
