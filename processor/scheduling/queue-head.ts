import type { CostModel } from './cost-model.ts'
import type { QueueEntry } from './deadline-order.ts'
import type { ServingPlan } from './service-order.ts'

/** Images at the head of a line, for each device, that are looked at run by run. */
export const headPerDevice = 64

export interface QueueHeadOptions {
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
  entries: readonly Pick<QueueEntry, 'deadline' | 'maxLevel'>[],
  level: number,
  { costs, plan, now, slowdown }: QueueHeadOptions,
): number {
  const { msPerImage, soonest, devices } = plan
  const ends: number[] = []
  let milderMs = 0
  for (const { maxLevel, deadline } of entries) {
    const budget = (deadline - now) / slowdown
    if (maxLevel < level) milderMs += msPerImage[maxLevel]! / devices
    else ends.push(budget < soonest[maxLevel]! ? Number.POSITIVE_INFINITY : budget - milderMs)
  }
  return latestStarts(shareOf(devices, ends), costs.runTimes(level))[0]!
}

export interface RunTimeOptions extends Pick<QueueHeadOptions, 'costs' | 'now' | 'slowdown'> {
  devices: number
}

/**
 * How long a run at `level` with the first images of these may take so that those in it, and those left for later runs,
 * are in time at this level; where not all can be, only those in it count. Images that could not be in time even if
 * they were alone do not count.
 */
export function timeForRun(
  entries: readonly Pick<QueueEntry, 'deadline'>[],
  level: number,
  { costs, devices, now, slowdown }: RunTimeOptions,
): (images: number) => number {
  const runMs = costs.runTimes(level)
  const ends = entries
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
function shareOf<T>(devices: number, queue: readonly T[]): T[] {
  return queue.filter((_, rank) => rank % devices === 0)
}

export interface InteractiveRoomOptions {
  costs: CostModel
  /** Interactive images that wait and are not part of the run. */
  waiting: number
  /** Those that are on their way to the queue. */
  upstream: number
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
  { costs, waiting, upstream, arrivalRate, targetMs, slowdown }: InteractiveRoomOptions,
): boolean {
  const newcomers = 1 + Math.floor(Math.max((ms * arrivalRate) / 1000, upstream))
  const images = Math.min(waiting + newcomers, headPerDevice)
  const ends = Array.from({ length: images }, (_, rank) => {
    const comesIn = (Math.max(0, rank - waiting) * ms) / newcomers
    return (comesIn + targetMs) / slowdown
  })
  return ms <= latestStarts(ends, costs.runTimes(0))[0]!
}

/**
 * When a device has to begin with the first, the second, ... image at the latest so that it and all behind it are in
 * time: below 0 where that is impossible. Images are served in order, cut into runs one after the other; of all ways to
 * cut them the one that can begin last. `ends` are the images' own latest ends, ms from now, Infinity for those that
 * need not be in time; `runMs[n]` is what a run of n images takes. O(images * largest run).
 *
 * @returns one more than there are images: Infinity stands behind the last
 */
export function latestStarts(ends: readonly number[], runMs: readonly number[]): number[] {
  const starts = new Array<number>(ends.length + 1).fill(Number.POSITIVE_INFINITY)
  const bounds = tightestFromHere(ends)
  for (let first = ends.length - 1; first >= 0; first--) {
    let latest = Number.NEGATIVE_INFINITY
    const most = Math.min(runMs.length - 1, ends.length - first)
    for (let size = 1; size <= most; size++)
      latest = Math.max(latest, Math.min(bounds[first]!, starts[first + size]!) - runMs[size]!)
    starts[first] = latest
  }
  return starts
}

/** An image is served no later than those behind it, so it has no more time than they have. */
function tightestFromHere(ends: readonly number[]): number[] {
  let tightest = Number.POSITIVE_INFINITY
  return ends
    .toReversed()
    .map((end) => {
      tightest = Math.min(tightest, end)
      return tightest
    })
    .reverse()
}
