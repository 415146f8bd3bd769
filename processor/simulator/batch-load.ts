import type { BatchBacklog } from '../../edge/contract/backlog.ts'

/** A batch that runs beside the interactive requests. Times are ms. */
export interface BatchOptions {
  lines: number
  /** Submission, since the trace began; default 0. */
  at?: number
  /** Time in which it is to be done. */
  windowMs: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
}

/** Consecutive lines of a batch: done as a whole, or again as a whole. */
export interface Shard {
  batch: SimulatedBatch
  /** From 0. */
  index: number
  lines: number
  /** Lines that were handed to the device or are on their way to it. */
  begun: number
  /** Levels of the finished lines. */
  levels: number[]
  /** Number of earlier attempts. */
  attempt: number
}

/** Lines of a shard at most, as the planner cuts them. */
const linesPerShard = 256

/** Batch under way: shards that no replica has in hand, and finished lines. Any replica with room takes the next shard. */
export class SimulatedBatch {
  readonly at: number
  readonly deadline: number
  readonly maxPrune: number
  readonly lines: number
  /** Finished lines by level. */
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

  /** Progress as a planner publishes it. */
  get pace(): BatchBacklog {
    const { deadline, maxPrune, lines, linesDone } = this
    return { batch: 'batch', deadline, maxPrune, linesLeft: lines - linesDone }
  }

  /** Takes a free shard; undefined when there is none. */
  take(now: number): Shard | undefined {
    return now < this.at ? undefined : this.#open.pop()
  }

  /** Frees a shard whose replica is gone; it starts again elsewhere. */
  giveBack(shard: Shard): void {
    shard.begun = 0
    shard.levels = []
    shard.attempt++
    this.#open.push(shard)
  }

  /** Finishes a line that ran at `level`. */
  lineDone(shard: Shard, level: number, now: number): void {
    shard.levels.push(level)
    if (shard.levels.length < shard.lines) return
    for (const each of shard.levels) this.linesAtLevel[each]!++
    this.linesDone += shard.lines
    if (this.linesDone === this.lines) this.doneAt = now
  }
}
