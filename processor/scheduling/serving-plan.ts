import { type CostModel, lowestSoFar } from './cost-model.ts'
import type { Tally } from './deadline-order.ts'

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
  for (let hardest = 0; hardest < tally.length; hardest++)
    ms += tally[hardest]! * msPerImage[Math.min(hardest, level)]!
  return ms
}
