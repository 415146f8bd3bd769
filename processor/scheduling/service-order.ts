import { type CostModel, lowestSoFar } from './cost-model.ts'
import { sum, type Tally } from './deadline-order.ts'
import type { Backlog } from './level.ts'
import type { LaneQueue } from './queue.ts'

/** The images that a decision looks along. */
export interface ServiceOrder {
  queue: LaneQueue
  /** Images of other lines that are served before this one. */
  ahead?: Tally
  /** Images of this lane that are not in the line yet. */
  upstream?: readonly Backlog[]
  /** Whether work that is not done at its deadline is given up, as a batch is; default false. */
  expires?: boolean
}

/** An image, or the last one of a backlog, with all that is served before it. */
export interface Checkpoint {
  /** Unix ms. */
  deadline: number
  /** The hardest level that it may be run at. */
  maxLevel: number
  /** Images of backlogs up to it, which have to be decoded first. */
  undecoded: number
  /** When it is done if everything up to it is served at `level`, ms from now. */
  finish(level: number): number
}

/**
 * Calls `visit` for the deadlines of a lineup: those of its backlogs, then those along its line. Both are served
 * together in the order of their deadlines, of equal ones the line first. A long line is visited as `DeadlineOrder.walk`
 * does. The checkpoint is reused between calls.
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
  const giveUp = ({ deadline }: Backlog) => {
    if (expires) before.endWithin((deadline - now) * plan.devices)
  }
  const sortKeys = backlogs.map(({ deadline }) => deadline)
  for (const [index, tallyAhead] of queue.aheadOfEach(sortKeys, ahead).entries()) {
    const backlog = backlogs[index]!
    tally = tallyAhead
    images = sum(tally)
    before.add(backlog)
    checkpoint.deadline = backlog.deadline
    checkpoint.maxLevel = backlog.maxLevel
    checkpoint.undecoded = before.images
    visit(checkpoint)
    giveUp(backlog)
  }

  let passed = 0
  before.clear()
  checkpoint.undecoded = 0
  queue.walk((entry, rank, tallyUpTo) => {
    for (; passed < backlogs.length && backlogs[passed]!.deadline < entry.sortKey; passed++) {
      before.add(backlogs[passed]!)
      giveUp(backlogs[passed]!)
    }
    tally = tallyUpTo
    images = rank
    checkpoint.deadline = entry.deadline
    checkpoint.maxLevel = entry.maxLevel
    visit(checkpoint)
  }, ahead)
}

/** The backlogs due up to some deadline, taken together. */
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

  /** What is not done after this much device time is given up: it keeps no later work waiting. */
  endWithin(leftMs: number): void {
    for (let level = 0; level < this.workMs.length; level++)
      this.workMs[level] = Math.min(this.workMs[level]!, Math.max(0, leftMs))
  }
}

/** What the cost model says about serving a line, looked up once for each decision. */
export interface ServingPlan {
  /** Devices that serve the line; a fraction when part of their time goes elsewhere. */
  devices: number
  /** The levels worth going to: each is faster than all before it. */
  steps: readonly number[]
  /** ms per image at the best batch size of the fastest level up to this one. */
  msPerImage: readonly number[]
  /** Shortest time in which an image alone is done when it allows this level, ms. */
  soonest: readonly number[]
  /** ms from now until `images` images of `workMs` device time are done if they are served at `level`. */
  finish(level: number, images: number, workMs: number): number
}

/** How the devices would serve images that run in whole batches of each level's best size. */
export function servingPlan({ costs, devices }: { costs: CostModel; devices: number }): ServingPlan {
  const msPerImage = costs.fastestUpTo()
  const steps = msPerImage.flatMap((ms, level) => (level === 0 || ms < msPerImage[level - 1]! ? [level] : []))
  const soonest = lowestSoFar(costs.levels.map((_, level) => costs.predict(costs.buckets[0]!, level)))
  const bestBucket = costs.levels.map((_, level) => costs.best(level).bucket)
  const finish: ServingPlan['finish'] = (level, images, workMs) => {
    // Whole batches run at the best rate; what is left over for each device takes longer than its share of one.
    const leftOver = (images / devices) % bestBucket[level]!
    const leftOverMs = costs.servingTimes(level)[Math.ceil(leftOver)]!
    return workMs / devices + leftOverMs - leftOver * msPerImage[level]!
  }
  return { devices, steps, msPerImage, soonest, finish }
}

/** Device time that these images take when the line is served at `level` and each image at most at its hardest, ms. */
export function work(tally: Tally, msPerImage: readonly number[], level: number): number {
  let ms = 0
  for (let maxLevel = 0; maxLevel < tally.length; maxLevel++)
    ms += tally[maxLevel]! * msPerImage[Math.min(maxLevel, level)]!
  return ms
}
