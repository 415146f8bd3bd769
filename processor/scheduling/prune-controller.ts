import { type Demand, type Load, leastLevels, type SafetyMargins } from './least-level.ts'
import { imagesOf } from './level.ts'

/** Share by which every run is taken to last longer than predicted where nothing else is said. */
export const defaultMargin = 0.1

export interface ControllerOptions {
  /** A level holds when the deadlines are met though every run takes this share longer; default 0.1. */
  margin?: number
  /** The same for going back to a lower level; default 0.2. */
  recoveryMargin?: number
  /** A lower level must have held for this long before the controller goes back to it, ms; default 2000. */
  holdMs?: number
}

const unpruned: Demand = { level: 0, until: Number.POSITIVE_INFINITY, feasible: true }

/**
 * How Turbine decides how hard to prune. Whenever a device is free, the controller looks along the waiting images in
 * the order in which they will be served, those of the line and those that are still beyond it, and asks the cost model
 * when each would be done at level 0: the images before it are served first, in whole batches of the level's best size,
 * by as many devices as there are, each image at most at the hardest level that it allows. `leastLevels` raises the
 * level until every deadline is met that can be met. It must also be one at which what waits beyond one round of batches
 * is gone within the drain target at the measured arrival rate: a burst is met when it is seen, and not when it has used
 * up the time that images have. The level rises at once and as far as needed. It falls to the least level that would have
 * held, with a wider margin, throughout the last two seconds; so it neither flaps under a constant load nor outlasts a
 * burst.
 *
 * Full quality is the resting state: an image that is alone, with nothing beyond its line, is never pruned, nor is one
 * without a deadline. Batch work is not in a hurry: it has no drain target, and only images of batches whose lines left
 * do not fit into the time left are pruned, as far as it takes; a batch that is due later is not pruned because an
 * earlier one is late.
 */
export class PruneController {
  /** For the level to rise to, and for the one to fall to, which does not matter where nothing is held. */
  readonly #margins: readonly SafetyMargins[]
  readonly #holdMs: number
  /** When each level was last needed with the wider margin. */
  readonly #neededAt: number[] = []
  #level = 0

  constructor({ margin = defaultMargin, recoveryMargin = 0.2, holdMs = 2000 }: ControllerOptions = {}) {
    const raise = { margin, drainMargin: 0 }
    const lower = { margin: recoveryMargin, drainMargin: recoveryMargin - margin }
    this.#margins = holdMs > 0 ? [raise, lower] : [raise]
    this.#holdMs = holdMs
  }

  /** The level to which the last decision rose or fell. A lone image is served at 0 and never raises it. */
  get level(): number {
    return this.#level
  }

  /** The demand that the next batch should meet. To be asked once for each batch, with time going forward. */
  decide(load: Load, now: number): Demand {
    const isAlone = load.queue.size <= 1 && imagesOf(load.upstream ?? []) === 0
    const [needed = unpruned, recovery = unpruned] = leastLevels(load, this.#margins, now)
    for (let level = 1; level <= recovery.level; level++) this.#neededAt[level] = now
    const kept = Math.min(this.#level, this.#held(now))
    this.#level = isAlone ? kept : Math.max(needed.level, kept)
    return isAlone ? unpruned : { ...needed, level: this.#level }
  }

  /** The level that has been needed with the wider margin within the last `holdMs`. */
  #held(now: number): number {
    return Math.max(
      0,
      this.#neededAt.findLastIndex((at) => now - at < this.#holdMs),
    )
  }
}
