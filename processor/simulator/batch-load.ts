import type { BatchBacklog } from '../../edge/contract/backlog.ts'

/** Batch beside the interactive requests. Times are ms. */
export interface BatchOptions {
  lines: number
  /** Submission, since the start of the trace; default 0. */
  at?: number
  /** Completion window. */
  windowMs: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
}

/** Consecutive lines of a batch, completed or retried as a whole. */
export interface Shard {
  batch: SimulatedBatch
  /** From 0. */
  index: number
  lines: number
  /** Lines started. */
  begun: number
  /** Levels of the finished lines. */
  levels: number[]
  /** Number of earlier attempts. */
  attempt: number
}

/** Maximum lines of a shard, as in the planner. */
const linesPerShard = 256

/** Running batch. Any replica with room takes the next unassigned shard. */
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

  /** Backlog as a planner publishes it. */
  get backlog(): BatchBacklog {
    const { deadline, maxPrune, lines, linesDone } = this
    return { batch: 'batch', deadline, maxPrune, linesLeft: lines - linesDone }
  }

  /** Takes an unassigned shard, if any. */
  take(now: number): Shard | undefined {
    return now < this.at ? undefined : this.#open.pop()
  }

  /** Returns the shard of a lost replica; another one restarts it. */
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
