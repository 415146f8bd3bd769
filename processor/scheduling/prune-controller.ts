import { type CostModel, lowestSoFar } from './cost-model.ts'
import type { Tally } from './deadline-order.ts'
import type { Line } from './queue.ts'

/** What the devices have before them when one of them is free. */
export interface Load {
  line: Line
  /** Images of other lines that are served before this one. */
  ahead?: Tally
  costs: CostModel
  /** Devices that serve the line; a fraction when part of their time goes elsewhere. */
  devices: number
  /** Images per second that come in. */
  arrivalRate: number
  /** Time in which a backlog has to be gone although more images come in, ms; Infinity: only deadlines count. */
  drainMs: number
}

/** The level that a line needs. */
export interface Demand {
  level: number
  /** Images due later than this (unix ms) are in time at a lower level and need not be pruned for it. */
  until: number
  /** False when even the hardest level is too slow. */
  holds: boolean
}

export interface ControllerOptions {
  /** A level holds when the deadlines are met though every run takes this share longer; default 0.1. */
  margin?: number
  /** The same for going back to a lower level; default 0.2. */
  recoveryMargin?: number
  /** A lower level must have held for this long before the controller goes back to it, ms; default 2000. */
  holdMs?: number
}

/**
 * How Turbine decides how hard to prune. Whenever a device is free, the controller looks along the line of waiting
 * images in the order in which they will be served, and asks the cost model when each would be done at level 0: the
 * images before it are served first, in whole batches of the level's best size, by as many devices as there are, each
 * image at the hardest level that it allows. Where an image would miss its deadline the level rises, just until the
 * image is in time, and the walk goes on from there; so the level that is left at the end of the line is the least one
 * with which every deadline is met. An image that could not be in time even if it were alone asks for nothing: no
 * pruning saves it. If more images wait than one round of batches takes, the level must also be one at which the
 * backlog is gone within the drain target at the measured arrival rate. The level rises at once and as far as needed.
 * It falls to the least level that would have held, with a wider margin and with the arrivals to come, throughout the
 * last two seconds; so it neither flaps under a constant load nor outlasts a burst. Full quality is the resting state:
 * an image that is alone in its line is never pruned, nor is one without a deadline. Batch work is not in a hurry: it
 * has no drain target, and only images that would miss their own completion window are pruned.
 */
export class PruneController {
  readonly #margin: number
  readonly #recoveryMargin: number
  readonly #holdMs: number
  /** When each level was last needed with the wider margin. */
  readonly #neededAt: number[] = []
  #level = 0

  constructor({ margin = 0.1, recoveryMargin = 0.2, holdMs = 2000 }: ControllerOptions = {}) {
    this.#margin = margin
    this.#recoveryMargin = recoveryMargin
    this.#holdMs = holdMs
  }

  /** The level to which the last decision rose or fell. A lone image is served at 0 and never raises it. */
  get level(): number {
    return this.#level
  }

  /** The demand that the next batch should meet. To be asked once for each batch, with time going forward. */
  decide(load: Load, now: number): Demand {
    if (load.line.size <= 1) {
      this.#level = Math.min(this.#level, this.#held(now))
      return { level: 0, until: Number.POSITIVE_INFINITY, holds: true }
    }
    const plan = planOf(load)
    const needed = leastLevel(load, { now, margin: this.#margin }, plan)
    if (needed.level === 0 && this.#level === 0) return needed
    const calm = leastLevel(load, { now, margin: this.#recoveryMargin, anticipate: true }, plan)
    for (let level = 1; level <= calm.level; level++) this.#neededAt[level] = now
    this.#level = Math.max(needed.level, Math.min(this.#level, this.#held(now)))
    return { ...needed, level: this.#level }
  }

  /** The level that has been needed with the wider margin within the last `holdMs`. */
  #held(now: number): number {
    return Math.max(
      0,
      this.#neededAt.findLastIndex((at) => now - at < this.#holdMs),
    )
  }
}

export interface LeastLevelOptions {
  now: number
  /** Every run is taken to last this share longer than predicted. */
  margin: number
  /** Count the arrivals to come even while no more waits than one round of batches takes; default false. */
  anticipate?: boolean
}

/** The least level with which the load's deadlines are met and its backlog drains. */
export function leastLevel(
  load: Load,
  { now, margin, anticipate = false }: LeastLevelOptions,
  plan: Plan = planOf(load),
): Demand {
  const { line, ahead } = load
  const { steps } = plan
  let step = 0
  let until = Number.NEGATIVE_INFINITY
  let holds = true
  const riseUntil = (inTime: (level: number) => boolean) => {
    while (step < steps.length - 1 && !inTime(steps[step]!)) step++
    holds &&= step < steps.length - 1 || inTime(steps[step]!)
  }
  line.walk((place, rank, tally) => {
    const budget = (place.deadline - now) / (1 + margin)
    if (budget < plan.soonest[place.hardest]!) return
    const inTime = (level: number) => plan.finish(level, rank, tally) <= budget
    riseUntil(inTime)
    if (step > 0 && !inTime(steps[step - 1]!)) until = place.deadline
  }, ahead)
  if (Number.isFinite(load.drainMs)) {
    riseUntil((level) => drains(load, level, { margin, anticipate, plan }))
    until = Number.POSITIVE_INFINITY
  }
  return { level: steps[step]!, until, holds }
}

/** What the cost model says about serving a line, looked up once for each decision. */
interface Plan {
  /** The levels worth going to: each is faster than all before it. */
  steps: readonly number[]
  /** ms per image at the best batch size of the fastest level up to this one. */
  msPerImage: readonly number[]
  /** Shortest time in which an image alone is done when it allows this level, ms. */
  soonest: readonly number[]
  /** When the image at this rank is done if the line is served at `level`, ms from now. */
  finish(level: number, rank: number, tally: Tally): number
}

function planOf({ costs, devices }: Pick<Load, 'costs' | 'devices'>): Plan {
  const msPerImage = costs.fastestUpTo()
  const steps = msPerImage.flatMap((ms, level) => (level === 0 || ms < msPerImage[level - 1]! ? [level] : []))
  const soonest = lowestSoFar(costs.levels.map((_, level) => costs.predict(costs.buckets[0]!, level)))
  const bestBucket = costs.levels.map((_, level) => costs.best(level).bucket)
  const servingTimes = costs.levels.map((_, level) => costs.servingTimes(level))
  const finish: Plan['finish'] = (level, rank, tally) => {
    const workMs = work(tally, msPerImage, level) / devices
    // Whole batches run at the best rate; what is left over for each device takes longer than its share of one.
    const leftOver = (rank / devices) % bestBucket[level]!
    return workMs + servingTimes[level]![Math.ceil(leftOver)]! - leftOver * msPerImage[level]!
  }
  return { steps, msPerImage, soonest, finish }
}

/** Device time that these images take when the line is served at `level` and each image at most at its hardest, ms. */
export function work(tally: Tally, msPerImage: readonly number[], level: number): number {
  let ms = 0
  for (let hardest = 0; hardest < tally.length; hardest++)
    ms += tally[hardest]! * msPerImage[Math.min(hardest, level)]!
  return ms
}

function drains(
  { line, costs, devices, arrivalRate, drainMs }: Load,
  level: number,
  { margin, anticipate, plan }: { margin: number; anticipate: boolean; plan: Plan },
): boolean {
  const backlog = Math.max(0, line.size - devices * costs.buckets.at(-1)!)
  if (backlog === 0 && !anticipate) return true
  const images = backlog + (arrivalRate * drainMs) / 1000
  const msPerImage = work(line.tally, plan.msPerImage, level) / Math.max(1, line.size)
  return images * msPerImage * (1 + margin) <= devices * drainMs
}
