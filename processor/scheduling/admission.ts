import type { CostModel } from './cost-model.ts'
import { type QueueEntry, sum } from './deadline-order.ts'
import { type Backlog, maxAllowedLevel } from './level.ts'
import { defaultMargin } from './prune-controller.ts'
import type { ImageQueue } from './queue.ts'
import { headPerDevice, latestStart } from './queue-head.ts'
import { servingPlan, work } from './service-order.ts'

/** Whether one more interactive image can be taken, and if not, why and when to repeat. */
export type Admission =
  | { admitted: true }
  | { admitted: false; reason: 'full' | 'late'; retryAfterSeconds: number }

export interface AdmissionOptions {
  queue: Pick<ImageQueue<unknown>, 'lane' | 'isFull'>
  costs: CostModel
  /** Default 1. */
  devices?: number
  /** Time within which an interactive image should be done, ms; default 500. */
  interactiveTargetMs?: number
  /** Time until a device is free, ms; default 0. */
  runningMs?: number
  /** Interactive images that were taken and are not in the queue yet; default none. */
  upstream?: readonly Backlog[]
  /** An image is refused when it would miss its deadline if every run took this share longer; default 0.1. */
  margin?: number
}

/** What is known of an image before it is taken. */
export interface AdmissionRequest {
  /** Unix ms; absent: never late. */
  deadline?: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
}

/** An image has at least the time of this many unpruned runs, each with one image. */
const loneRuns = 4
/** Looks along the line for the moment from which on an image would be taken; the end of the line is the last one. */
const looks = 8

/**
 * Looks whether an interactive image can be taken at `now`. It cannot when the lane is full, nor when it would miss its
 * deadline even if every image were pruned as hard as it allows: the run that keeps the devices busy, the images due
 * no later than it, in the line and beyond it, and then its own run would take longer than it has. It has the
 * interactive target at least, since a caller with a shorter deadline asked for speed and not for a refusal, and the
 * time of four runs, so that a device that is slow on a single image still serves a few callers. An image that finds
 * the device idle and nothing before it is always taken, and one that is never late is refused only by a full lane.
 *
 * `retryAfterSeconds`, at least 1, is when the same image would be taken if nobody else came.
 */
export function admission(
  options: AdmissionOptions,
  { deadline = Number.POSITIVE_INFINITY, maxPrune = 1 }: AdmissionRequest,
  now: number,
): Admission {
  const { queue, costs, interactiveTargetMs = 500, margin = defaultMargin } = options
  const loneRunsMs = loneRuns * costs.predict(costs.buckets[0]!, 0)
  const budgetMs = Math.max(deadline - now, interactiveTargetMs, loneRunsMs) / (1 + margin)
  const doneIn = serviceTime(options, maxPrune)
  const full = queue.isFull('interactive')
  const inTime = () =>
    doneIn(deadline) <= budgetMs && !makesScheduleInfeasible(options, { deadline, maxPrune, budgetMs }, now)
  if (!full && inTime()) return { admitted: true }
  return {
    admitted: false,
    reason: full ? 'full' : 'late',
    retryAfterSeconds: secondsUntil((waitMs) => doneIn(deadline + waitMs) - budgetMs),
  }
}

/**
 * How long it takes, at the hardest levels, until an image due at `due` is done, ms from now; 0 when nothing is in its
 * way.
 */
function serviceTime(
  { queue, costs, devices = 1, runningMs = 0, upstream = [] }: AdmissionOptions,
  maxPrune: number,
): (deadline: number) => number {
  const plan = servingPlan({ costs, devices })
  const maxLevel = costs.levels.length - 1
  const ownMs = plan.msPerImage[maxAllowedLevel(costs.levels, maxPrune)]!
  return (deadline) => {
    const tally = [...queue.lane('interactive').aheadOf(deadline)]
    for (const backlog of upstream)
      if (backlog.deadline <= deadline) tally[backlog.maxLevel]! += backlog.images
    const images = sum(tally)
    if (images === 0 && runningMs <= 0) return 0
    return runningMs + plan.finish(maxLevel, images + 1, work(tally, plan.msPerImage, maxLevel) + ownMs)
  }
}

/**
 * Whether the images before it can be cut into runs that all end in time, at the hardest level, but not with it: it
 * would miss its deadline, or make another one miss.
 */
function makesScheduleInfeasible(
  { queue, costs, devices = 1, runningMs = 0, margin = defaultMargin }: AdmissionOptions,
  { deadline, maxPrune, budgetMs }: Required<AdmissionRequest> & { budgetMs: number },
  now: number,
): boolean {
  const seen = headPerDevice * devices
  const before = queue.lane('interactive').pick(seen, seen, ({ sortKey }) => sortKey <= deadline)
  if (before.length === 0 || before.length === seen) return false
  const options = { costs, plan: servingPlan({ costs, devices }), now, slowdown: 1 + margin }
  const newcomer = {
    deadline: now + budgetMs * (1 + margin),
    maxLevel: maxAllowedLevel(costs.levels, maxPrune),
  }
  const isFeasible = (entries: readonly Pick<QueueEntry, 'deadline' | 'maxLevel'>[]) =>
    latestStart(entries, costs.levels.length - 1, options) >= runningMs
  return !isFeasible([...before, newcomer]) && isFeasible(before)
}

/** Whole seconds, at least 1, after which no more waiting is left: what is before an image that comes later differs. */
function secondsUntil(waitLeft: (waitMs: number) => number): number {
  let seconds = 1
  for (let look = 1; look <= looks; look++) {
    const needed = Math.ceil(waitLeft(look < looks ? 1000 * seconds : Number.POSITIVE_INFINITY) / 1000)
    if (needed <= seconds) return seconds
    seconds = needed
  }
  return seconds
}
