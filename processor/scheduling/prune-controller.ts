import { type Demand, type Load, leastLevels, type SafetyMargins } from './least-level.ts'
import { imagesOf } from './level.ts'

/** Default safety margin: share by which every run is assumed to take longer than predicted. */
export const defaultMargin = 0.1

export interface ControllerOptions {
  /** Deadlines must be met though every run takes this share longer; default 0.1. */
  margin?: number
  /** The same for going back to a lower level; default 0.2. */
  recoveryMargin?: number
  /** A lower level must have sufficed for this long before the controller goes back to it, ms; default 2000. */
  holdMs?: number
}

const unpruned: Demand = { level: 0, until: Number.POSITIVE_INFINITY, feasible: true }

/**
 * Decides how hard to prune: the least level at which every deadline is met that can be met, and the backlog drains.
 * The level rises at once and falls slowly; full quality is the resting state. See the README of this folder.
 */
export class PruneController {
  /** Margins for raising the level, and for lowering it, which does not matter where nothing is held. */
  readonly #margins: readonly SafetyMargins[]
  readonly #holdMs: number
  /** Last time at which each level was needed with the wider margin, unix ms. */
  readonly #neededAt: number[] = []
  #level = 0

  constructor({ margin = defaultMargin, recoveryMargin = 0.2, holdMs = 2000 }: ControllerOptions = {}) {
    const raise = { margin, drainMargin: 0 }
    const lower = { margin: recoveryMargin, drainMargin: recoveryMargin - margin }
    this.#margins = holdMs > 0 ? [raise, lower] : [raise]
    this.#holdMs = holdMs
  }

  /** Level after the last decision. A lone image is served at 0 and never raises it. */
  get level(): number {
    return this.#level
  }

  /** Demand on the next batch. Call it once for each batch, with time going forward. */
  decide(load: Load, now: number): Demand {
    const isAlone = load.queue.size <= 1 && imagesOf(load.upstream ?? []) === 0
    const [needed = unpruned, recovery = unpruned] = leastLevels(load, this.#margins, now)
    for (let level = 1; level <= recovery.level; level++) this.#neededAt[level] = now
    const held = this.#neededAt.findLastIndex((at) => now - at < this.#holdMs)
    const kept = Math.max(0, Math.min(this.#level, held))
    this.#level = isAlone ? kept : Math.max(needed.level, kept)
    return isAlone ? unpruned : { ...needed, level: this.#level }
  }
}
