import type { CostModel } from './cost-model.ts'
import type { QueueEntry } from './deadline-order.ts'
import type { ServingPlan } from './service-order.ts'

/** Images at the head of a queue, for each device, that are scheduled run by run. */
export const headPerDevice = 64

export interface QueueHeadOptions {
  costs: CostModel
  plan: ServingPlan
  now: number
  /** Factor by which every run is assumed to take longer than predicted. */
  slowdown: number
}

/**
 * Latest start of these images, ms from now, at which they have a schedule of runs at `level` that all end in time. Milder
 * images take their time before these runs; those that would be late even alone do not count. Infinity without any hurry.
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
 * Time that a run at `level` with the first images may take so that those in it, and those left for later runs, are in
 * time; where not all can be, only those in it count. Images that would be late even alone do not count.
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

/** Share of one device: of `n` devices it serves every n-th image. */
function shareOf<T>(devices: number, queue: readonly T[]): T[] {
  return queue.filter((_, rank) => rank % devices === 0)
}

export interface InteractiveRoomOptions {
  /** Time until a place is free again behind a run with 0, 1, 2, ... of them, unpruned, ms. */
  runMs: readonly number[]
  /** Interactive images in the queue that are not part of the run. */
  waiting: number
  /** Interactive images that are not in the queue yet. */
  upstream: number
  /** Interactive images per second. */
  arrivalRate: number
  /** Their latency target, ms. */
  targetMs: number
  /** Factor by which every run is assumed to take longer than predicted. */
  slowdown: number
}

/**
 * True when the interactive images that wait, and those that come in meanwhile, can be in time unpruned after a run of
 * `ms` with batch images. The first is assumed to come in at once, the others evenly during the run.
 */
export function leavesRoom(
  ms: number,
  { runMs, waiting, upstream, arrivalRate, targetMs, slowdown }: InteractiveRoomOptions,
): boolean {
  const arrivals = 1 + Math.floor(Math.max((ms * arrivalRate) / 1000, upstream))
  const images = Math.min(waiting + arrivals, headPerDevice)
  const ends = Array.from({ length: images }, (_, rank) => {
    const comesIn = (Math.max(0, rank - waiting) * ms) / arrivals
    return (comesIn + targetMs) / slowdown
  })
  return ms <= latestStarts(ends, runMs)[0]!
}

/**
 * Latest starts of the first, the second, ... image, ms from now, so that it and all behind it are in time: below 0 where
 * that is impossible. Images are served in order, in runs one after the other; of all ways to form runs the one that can
 * start last. `ends` are the images' deadlines, Infinity for none; `runMs[n]` is the time of a run with n images.
 * O(images * largest run).
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
