import type { CostModel } from './cost-model.ts'
import { latestStarts } from './latest-starts.ts'
import { headPerDevice } from './line-head.ts'

export interface InteractiveRoomOptions {
  costs: CostModel
  /** Interactive images that wait and are not part of the run. */
  waiting: number
  /** Those that are on their way to the queue. */
  beyond: number
  /** Interactive images per second. */
  arrivalRate: number
  /** Time within which each of them should be done, ms. */
  targetMs: number
  /** Every run is taken to last this many times longer than predicted. */
  slowdown: number
}

/**
 * Whether the interactive images that wait, and those that come in meanwhile, can be in time unpruned after a run of
 * `ms` with batch images: the first comes in at once, the others evenly during the run.
 */
export function leavesRoom(
  ms: number,
  { costs, waiting, beyond, arrivalRate, targetMs, slowdown }: InteractiveRoomOptions,
): boolean {
  const newcomers = 1 + Math.floor(Math.max((ms * arrivalRate) / 1000, beyond))
  const images = Math.min(waiting + newcomers, headPerDevice)
  const ends = Array.from({ length: images }, (_, rank) => {
    const comesIn = (Math.max(0, rank - waiting) * ms) / newcomers
    return (comesIn + targetMs) / slowdown
  })
  return ms <= latestStarts(ends, costs.runTimes(0))[0]!
}
