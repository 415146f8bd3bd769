import { type CostModel, lowestSoFar } from './cost-model.ts'
import { sum, type Tally } from './deadline-order.ts'
import type { Backlog } from './level.ts'
import type { LaneQueue } from './queue.ts'

/** Queue and backlogs in the order in which a decision assumes them to be served. */
export interface ServiceOrder {
  queue: LaneQueue
  /** Images of other lanes that are served first. */
  ahead?: Tally
  /** Images of this lane that are not in the queue yet. */
  upstream?: readonly Backlog[]
  /** True when unfinished work is dropped at its deadline, as a batch is; default false. */
  expires?: boolean
}

/** Image, or the last one of a backlog, with everything that is served before it. */
export interface Checkpoint {
  /** Unix ms. */
  deadline: number
  /** Highest level that it may run at. */
  maxLevel: number
  /** Images of backlogs up to it, which have to be decoded first. */
  undecoded: number
  /** Time until it is done if everything up to it is served at `level`, ms. */
  finish(level: number): number
}

/**
 * Calls `visit` for the deadlines of the backlogs, then for those of the queue. Both are served together by deadline,
 * of equal ones the queue first. A long queue is visited as `DeadlineOrder.walk` does. The checkpoint is reused.
 */
export function eachDeadline(
  { queue, ahead = [], upstream = [], expires = false }: ServiceOrder,
  { plan, now }: { plan: ServingPlan; now: number },
  visit: (checkpoint: Checkpoint) => void,
): void {
  const before = new BacklogsBefore(plan)
  let images = 0
  let tally: Tally = []
  const checkpoint: Checkpoint = {
    deadline: 0,
    maxLevel: 0,
    undecoded: 0,
    finish: (level) => {
      const workMs = work(tally, plan.msPerImage, level) + before.workMs[level]!
      return plan.finish(level, images + before.images, workMs)
    },
  }

  const hasTime = ({ deadline, maxLevel }: Backlog) => deadline - now >= plan.soonest[maxLevel]!
  const backlogs = (expires ? upstream.filter(hasTime) : [...upstream]).sort(
    (a, b) => a.deadline - b.deadline,
  )
  const expire = ({ deadline }: Backlog) => {
    if (expires) before.dropAfter((deadline - now) * plan.devices)
  }
  const sortKeys = backlogs.map(({ deadline }) => deadline)
  for (const [index, tallyAhead] of queue.aheadOfEach(sortKeys, ahead).entries()) {
    const backlog = backlogs[index]!
    tally = tallyAhead
    images = sum(tally) / plan.weight
    before.add(backlog)
    checkpoint.deadline = backlog.deadline
    checkpoint.maxLevel = backlog.maxLevel
    checkpoint.undecoded = before.images
    visit(checkpoint)
    expire(backlog)
  }

  let passed = 0
  before.clear()
  checkpoint.undecoded = 0
  queue.walk((entry, rank, tallyUpTo) => {
    for (; passed < backlogs.length && backlogs[passed]!.deadline < entry.sortKey; passed++) {
      before.add(backlogs[passed]!)
      expire(backlogs[passed]!)
    }
    tally = tallyUpTo
    images = rank
    checkpoint.deadline = entry.deadline
    checkpoint.maxLevel = entry.maxLevel
    visit(checkpoint)
  }, ahead)
}

/** Sum of the backlogs up to some deadline. */
class BacklogsBefore {
  images = 0
  /** Their device time by level, ms. */
  readonly workMs: number[]
  readonly #msPerImage: readonly number[]

  constructor({ msPerImage }: ServingPlan) {
    this.#msPerImage = msPerImage
    this.workMs = msPerImage.map(() => 0)
  }

  clear(): void {
    this.images = 0
    this.workMs.fill(0)
  }

  add({ images, maxLevel }: Backlog): void {
    this.images += images
    for (let level = 0; level < this.workMs.length; level++)
      this.workMs[level]! += images * this.#msPerImage[Math.min(maxLevel, level)]!
  }

  /** Drops work that is not done after this much device time: it delays no later work. */
  dropAfter(leftMs: number): void {
    for (let level = 0; level < this.workMs.length; level++)
      this.workMs[level] = Math.min(this.workMs[level]!, Math.max(0, leftMs))
  }
}

/** Answers of the cost model on serving a queue, looked up once for each decision. */
export interface ServingPlan {
  /** Devices that serve the queue; a fraction when part of their time goes elsewhere. */
  devices: number
  /** Levels worth rising to: each is faster than all before it. */
  steps: readonly number[]
  /** ms per image at the best batch size of the fastest level up to this one. */
  msPerImage: readonly number[]
  /** Shortest time in which an image alone is done when it allows this level, ms. */
  soonest: readonly number[]
  /** Mean weight of the images, in usual ones. */
  weight: number
  /** Time until `images` images of `workMs` device time are done at `level`, ms. */
  finish(level: number, images: number, workMs: number): number
}

/** Mean weight of the images of a queue, and of one more. */
export function meanWeight({ size, tally }: Pick<LaneQueue, 'size' | 'tally'>, more?: number): number {
  const images = size + (more === undefined ? 0 : 1)
  return images === 0 ? 1 : (sum(tally) + (more ?? 0)) / images
}

/** Plans with whole batches of each level's best size. */
export function servingPlan({
  costs,
  devices,
  weight = 1,
}: Pick<ServingPlan, 'devices'> & { costs: CostModel; weight?: number }): ServingPlan {
  const msPerImage = costs.fastestUpTo()
  const steps = msPerImage.flatMap((ms, level) => (level === 0 || ms < msPerImage[level - 1]! ? [level] : []))
  const soonest = lowestSoFar(
    costs.levels.map((_, level) => weight * costs.predict(costs.buckets[0]!, level)),
  )
  const bestBucket = costs.levels.map((_, level) => costs.best(level).bucket)
  const finish: ServingPlan['finish'] = (level, images, workMs) => {
    // Whole batches run at the best rate; what is left over for each device takes longer than its share of one.
    const leftOver = (images / devices) % bestBucket[level]!
    const leftOverMs = costs.servingTimes(level)[Math.ceil(leftOver)]!
    return workMs / devices + weight * (leftOverMs - leftOver * msPerImage[level]!)
  }
  return { devices, steps, msPerImage, soonest, weight, finish }
}

/** Device time of these images at `level`, each at most at the highest that it allows, ms. */
export function work(tally: Tally, msPerImage: readonly number[], level: number): number {
  let ms = 0
  for (let maxLevel = 0; maxLevel < tally.length; maxLevel++)
    ms += tally[maxLevel]! * msPerImage[Math.min(maxLevel, level)]!
  return ms
}
