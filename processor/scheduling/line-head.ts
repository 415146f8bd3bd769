import type { CostModel } from './cost-model.ts'
import type { Place } from './deadline-order.ts'
import { latestStarts } from './latest-starts.ts'
import type { ServingPlan } from './serving-plan.ts'

/** Images at the head of a line, for each device, that are looked at run by run. */
export const headPerDevice = 64

export interface LineHeadOptions {
  costs: CostModel
  plan: ServingPlan
  now: number
  /** Every run is taken to last this many times longer than predicted. */
  slowdown: number
}

/**
 * When the devices have to begin with these images at the latest, ms from now, so that there is a way to cut them into
 * runs at `level` that all end in time. Milder images are not part of these runs and take their time before them; those
 * that could not be in time even if they were alone do not count. Infinity when nothing is in a hurry.
 */
export function latestStart(
  places: readonly Pick<Place, 'deadline' | 'hardest'>[],
  level: number,
  { costs, plan, now, slowdown }: LineHeadOptions,
): number {
  const { msPerImage, soonest, devices } = plan
  const ends: number[] = []
  let milderMs = 0
  for (const { hardest, deadline } of places) {
    const budget = (deadline - now) / slowdown
    if (hardest < level) milderMs += msPerImage[hardest]! / devices
    else ends.push(budget < soonest[hardest]! ? Number.POSITIVE_INFINITY : budget - milderMs)
  }
  return latestStarts(shareOf(devices, ends), costs.runTimes(level))[0]!
}

export interface RunTimeOptions extends Pick<LineHeadOptions, 'costs' | 'now' | 'slowdown'> {
  devices: number
}

/**
 * How long a run at `level` with the first images of these may take so that those in it, and those left for later runs,
 * are in time at this level; where not all can be, only those in it count. Images that could not be in time even if
 * they were alone do not count.
 */
export function timeForRun(
  places: readonly Pick<Place, 'deadline'>[],
  level: number,
  { costs, devices, now, slowdown }: RunTimeOptions,
): (images: number) => number {
  const runMs = costs.runTimes(level)
  const ends = places
    .map(({ deadline }) => (deadline - now) / slowdown)
    .map((end) => (end < runMs[1]! ? Number.POSITIVE_INFINITY : end))
  const starts = latestStarts(shareOf(devices, ends), runMs)
  const allInTime = starts[0]! >= 0
  return (images) => {
    const own = Math.min(...ends.slice(0, images))
    return allInTime ? Math.min(own, starts[images] ?? Number.POSITIVE_INFINITY) : own
  }
}

/** What one of several devices serves of a line: the head, and every so manieth behind it. */
function shareOf<T>(devices: number, line: readonly T[]): T[] {
  return line.filter((_, rank) => rank % devices === 0)
}
