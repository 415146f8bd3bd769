import type { GeneratorRun } from '../../models/exported/generator.ts'
import { stepsBetweenJoins } from '../../scheduling/time-left.ts'
import type { RunRow } from '../batch.ts'
import type { RunEvents } from './runner.ts'

/**
 * Ids of one run of the session where a caller sees them come, and at least where none does: fewer carry the caches out and in
 * again more often.
 */
const fewestSteps = 4

interface RunningRow {
  row: RunRow
  /** Index in the whole run, those that failed before their prompts were run included. */
  index: number
  made: number[]
}

/** Rows of a batch that makes ids step by step, as a generator numbers them: tells what becomes of each. */
export class RunningRows {
  readonly #endIds: readonly number[]
  readonly #events: RunEvents
  readonly #rows = new Map<number, RunningRow>()
  /** Rows so far, and how many of them the generator knows. */
  #asked = 0
  #begun = 0
  /** Time of the pictures of rows whose prompts are run next, ms. */
  #visionMs = 0

  constructor(endIds: readonly number[], events: RunEvents) {
    this.#endIds = endIds
    this.#events = events
  }

  /** Adds rows whose pictures took `visionMs`; their prompts are run next. */
  add(rows: readonly RunRow[], visionMs: number): void {
    for (const row of rows) this.#rows.set(this.#begun++, { row, index: this.#asked++, made: [] })
    this.#visionMs = visionMs
  }

  /** Rows whose pictures could not be run. */
  refuse({ length }: readonly RunRow[], error: unknown): void {
    this.#tellFailed(
      Array.from({ length }, () => this.#asked++),
      error,
    )
  }

  /** Rows whose prompts could not be run. */
  failed(numbers: readonly number[], error: unknown): void {
    const failed = numbers.map((number) => this.#rows.get(number)!.index)
    for (const number of numbers) this.#rows.delete(number)
    this.#tellFailed(failed, error)
  }

  #tellFailed(rows: number[], error: unknown): void {
    this.#events.onFailed?.({ rows, reason: error instanceof Error ? error.message : String(error) })
  }

  /** Ids of the next run: no more than the row has left that ends first, which nobody is to wait for longer. */
  chunk(numbers: readonly number[]): number {
    const rows = numbers.map((number) => this.#rows.get(number)!)
    if (rows.some(({ row }) => row.streamed)) return fewestSteps
    const left = Math.min(...rows.map(({ row, made }) => row.settings.maxTokens - made.length))
    return Math.min(stepsBetweenJoins, Math.max(fewestSteps, left))
  }

  /** Tells ids as they are made. @returns false for a row that is to leave */
  made(number: number, ids: readonly number[]): boolean {
    const { row, index, made } = this.#rows.get(number)!
    made.push(...ids)
    const { settings, leaves } = row
    const isLeaving = leaves !== undefined && Atomics.load(leaves, 0) !== 0
    const hasEnded = made.length > 0 && this.#endIds.includes(made.at(-1)!)
    const isDone = isLeaving || hasEnded || made.length >= settings.maxTokens
    this.#events.onMade?.({ row: index, ids: [...made], ...(isDone && { ended: hasEnded }) })
    if (isDone) this.#rows.delete(number)
    return !isLeaving
  }

  /** Tells the time of a run, with that of the pictures where it was the first of its rows. */
  timed({ rows, first, ids, ms }: GeneratorRun): void {
    this.#events.onTime?.({
      rows: rows.map((number) => this.#rows.get(number)!.index),
      steps: first ? 0 : ids,
      ms: first ? ms + this.#visionMs : ms,
    })
    if (first) this.#visionMs = 0
  }
}
