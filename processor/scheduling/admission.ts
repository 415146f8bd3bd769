import type { CostModel } from './cost-model.ts'
import { type QueueEntry, sum } from './deadline-order.ts'
import { type Backlog, maxAllowedLevel } from './level.ts'
import { defaultMargin } from './prune-controller.ts'
import type { ImageQueue } from './queue.ts'
import { headPerDevice, latestStart } from './queue-head.ts'
import { meanWeight, servingPlan, work } from './service-order.ts'

/** Decision on one more interactive image; a rejection says why and when to retry. */
export type Admission =
  | { admitted: true }
  | { admitted: false; reason: 'full' | 'late'; retryAfterSeconds: number }

export interface AdmissionOptions {
  queue: Pick<ImageQueue<unknown>, 'lane' | 'isFull' | 'groups'>
  costs: CostModel
  /** Default 1. */
  devices?: number
  /** Latency target of interactive images, ms; default 500. */
  interactiveTargetMs?: number
  /** Time until a device is free, ms; default 0. */
  runningMs?: number
  /** Interactive images that were accepted and are not in the queue yet; default none. */
  upstream?: readonly Backlog[]
  /** An image is rejected when it would miss its deadline if every run took this share longer; default 0.1. */
  margin?: number
}

/** Properties of an image that admission decides by. */
export interface AdmissionRequest {
  /** Unix ms; absent: never late. */
  deadline?: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
  /** Most ids of its caption; default: as usual. */
  maxTokens?: number | undefined
}

/** Every image has at least the time of this many unpruned runs, each with one image. */
const minRuns = 4
/** Steps of the search for `retryAfterSeconds`; the last one asks for the end of the queue. */
const retrySteps = 8

/**
 * Decides whether an interactive image can be accepted at `now`: the lane has room, and the image is in time even if
 * all that is served before it, and it itself, is pruned as hard as it allows. The README of this folder has the details.
 *
 * @returns for a rejection also `retryAfterSeconds`, at least 1: when the image would be accepted if nobody else came
 */
export function admission(
  options: AdmissionOptions,
  { deadline = Number.POSITIVE_INFINITY, maxPrune = 1, maxTokens }: AdmissionRequest,
  now: number,
): Admission {
  const { queue, costs, interactiveTargetMs = 500, margin = defaultMargin } = options
  const steps = maxTokens === undefined ? undefined : costs.expectedSteps([maxTokens])
  const minRunsMs = minRuns * costs.predict(costs.buckets[0]!, 0, undefined, steps)
  // A caller with a shorter deadline than the target asked for speed, not for a rejection.
  const budgetMs = Math.max(deadline - now, interactiveTargetMs, minRunsMs) / (1 + margin)
  const doneIn = serviceTime(options, maxPrune, costs.weight(undefined, maxTokens))
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

/** Time at the highest levels until an image with a deadline is done, ms from now; 0 when nothing is before it. */
function serviceTime(
  { queue, costs, devices = 1, runningMs = 0, upstream = [] }: AdmissionOptions,
  maxPrune: number,
  weight: number,
): (deadline: number) => number {
  const plan = servingPlan({ costs, devices, weight: meanWeight(queue.lane('interactive'), weight) })
  const maxLevel = costs.levels.length - 1
  const ownMs = weight * plan.msPerImage[maxAllowedLevel(costs.levels, maxPrune)]!
  // Batches are of one group: of each other one, one that is not full may go before.
  const others = Math.max(0, queue.groups('interactive') - 1)
  const othersMs = (others * costs.best(maxLevel).bucket * plan.msPerImage[maxLevel]! * plan.weight) / devices
  return (deadline) => {
    const tally = [...queue.lane('interactive').aheadOf(deadline)]
    for (const backlog of upstream)
      if (backlog.deadline <= deadline) tally[backlog.maxLevel]! += backlog.images
    const images = sum(tally) / plan.weight
    if (images === 0 && runningMs <= 0) return 0
    const workMs = work(tally, plan.msPerImage, maxLevel) + ownMs
    return runningMs + othersMs + plan.finish(maxLevel, images + 1, workMs)
  }
}

/** True when the images before it have a schedule in time at the highest level, but not together with this one. */
function makesScheduleInfeasible(
  { queue, costs, devices = 1, runningMs = 0, margin = defaultMargin }: AdmissionOptions,
  { deadline, maxPrune, budgetMs }: Record<'deadline' | 'maxPrune' | 'budgetMs', number>,
  now: number,
): boolean {
  const seen = headPerDevice * devices
  const before = queue.lane('interactive').pick(seen, seen, ({ sortKey }) => sortKey <= deadline)
  if (before.length === 0 || before.length === seen) return false
  const options = { costs, plan: servingPlan({ costs, devices }), now, slowdown: 1 + margin }
  const own = {
    deadline: now + budgetMs * (1 + margin),
    maxLevel: maxAllowedLevel(costs.levels, maxPrune),
  }
  const isFeasible = (entries: readonly Pick<QueueEntry, 'deadline' | 'maxLevel'>[]) =>
    latestStart(entries, costs.levels.length - 1, options) >= runningMs
  return !isFeasible([...before, own]) && isFeasible(before)
}

/** Whole seconds, at least 1, until no wait is left. A later image has others before it, so the wait is asked for again. */
function secondsUntil(waitLeft: (waitMs: number) => number): number {
  let seconds = 1
  for (let step = 1; step <= retrySteps; step++) {
    const needed = Math.ceil(waitLeft(step < retrySteps ? 1000 * seconds : Number.POSITIVE_INFINITY) / 1000)
    if (needed <= seconds) return seconds
    seconds = needed
  }
  return seconds
}
