import type { CostModel } from './cost-model.ts'
import type { QueueEntry } from './deadline-order.ts'
import { imagesOf } from './level.ts'
import { headPerDevice, latestStart } from './queue-head.ts'
import {
  type Checkpoint,
  eachDeadline,
  meanWeight,
  type ServiceOrder,
  type ServingPlan,
  servingPlan,
  work,
} from './service-order.ts'

/** Work of the devices when one of them is free. */
export interface Load extends ServiceOrder {
  costs: CostModel
  /** Devices that serve the queue; a fraction when part of their time goes elsewhere. */
  devices: number
  /** Images per second that come in. */
  arrivalRate: number
  /** Time in which a backlog has to drain although more images come in, ms; Infinity: only deadlines count. */
  drainMs: number
}

/** Level that a queue needs. */
export interface Demand {
  level: number
  /** Images due later than this (unix ms) are in time at a lower level and need not be pruned for it. */
  until: number
  /** False when even the highest level is too slow. */
  feasible: boolean
}

/** Safety margins of a decision. */
export interface SafetyMargins {
  /** Share by which every run is assumed to take longer than predicted where a deadline is at stake. */
  margin: number
  /** Same where a backlog has to drain: that takes many runs, whose errors even out. */
  drainMargin: number
}

/**
 * Finds the least level at which the load's deadlines are met and its backlog drains, for each of the margins in one pass
 * over the load. Images that would be late even alone ask for nothing, and nothing is asked for sooner than it can be
 * decoded. The README of this folder has the steps.
 */
export function leastLevels(load: Load, margins: readonly SafetyMargins[], now: number): Demand[] {
  const plan = servingPlan({ ...load, weight: meanWeight(load.queue) })
  const drains = Number.isFinite(load.drainMs)
  const searches = margins.map((each) => new LevelSearch(plan, { ...each, drains }))
  const decodingMs = 1000 / load.costs.decodingRate
  eachDeadline(load, { plan, now }, (checkpoint) => {
    const leftMs = checkpoint.deadline - now
    for (const search of searches) search.meetDeadline(checkpoint, leftMs, checkpoint.undecoded * decodingMs)
  })
  if (drains) {
    const head = load.queue.pick(headPerDevice * load.devices, Number.POSITIVE_INFINITY, () => true)
    for (const search of searches) {
      search.drain(load)
      search.scheduleHead(head, load, now)
    }
  }
  return searches.map(({ demand }) => demand)
}

/** Rises from level to level, no further than the checks ask for. */
class LevelSearch {
  readonly #plan: ServingPlan
  readonly #slowdown: number
  readonly #drainSlowdown: number
  /** A queue that has to drain shares one level. */
  readonly #drains: boolean
  #step = 0
  #until = Number.NEGATIVE_INFINITY
  #feasible = true

  constructor(plan: ServingPlan, { margin, drainMargin, drains }: SafetyMargins & { drains: boolean }) {
    this.#plan = plan
    this.#slowdown = 1 + margin
    this.#drainSlowdown = 1 + drainMargin
    this.#drains = drains
  }

  get demand(): Demand {
    const level = this.#plan.steps[this.#step]!
    return { level, until: this.#drains ? Number.POSITIVE_INFINITY : this.#until, feasible: this.#feasible }
  }

  /** Rises until the checkpoint is done within `leftMs`, or else within its decoding time. */
  meetDeadline(checkpoint: Checkpoint, leftMs: number, decodedInMs: number): void {
    const { steps, soonest } = this.#plan
    if (this.#drains && !this.#feasible) return
    const budget = leftMs / this.#slowdown
    if (budget < soonest[checkpoint.maxLevel]!) return
    const latest = Math.max(budget, decodedInMs)
    const before = this.#step
    // Once the highest level is infeasible there is nothing to rise to.
    while (this.#feasible && checkpoint.finish(steps[this.#step]!) > latest && this.#canRise()) this.#step++
    if (this.#step > before) this.#until = checkpoint.deadline
    else if (!this.#drains && this.#step > 0 && checkpoint.deadline > this.#until) {
      const lowerMisses = checkpoint.finish(steps[this.#step - 1]!) > latest
      if (lowerMisses) this.#until = checkpoint.deadline
    }
  }

  /** Rises until the backlog drains in time although more images come in. */
  drain(load: Load): void {
    const { steps } = this.#plan
    const budgetMs = (load.devices * load.drainMs) / this.#drainSlowdown
    const takesMs = (level: number) => drainWork(load, level, this.#plan)
    while (takesMs(steps[this.#step]!) > budgetMs && this.#canRise()) this.#step++
  }

  /** Rises until the head of the queue has a schedule of runs that all end in time. */
  scheduleHead(head: readonly QueueEntry[], { costs }: Load, now: number): void {
    const { steps } = this.#plan
    const options = { costs, plan: this.#plan, now, slowdown: this.#slowdown }
    while (latestStart(head, steps[this.#step]!, options) < 0 && this.#canRise()) this.#step++
  }

  #canRise(): boolean {
    const higher = this.#step < this.#plan.steps.length - 1
    if (!higher) this.#feasible = false
    return higher
  }
}

/**
 * Device time at `level` of the images beyond one round of batches and of those that come in within the drain time, ms.
 * Future images are assumed to bear the same levels as those that wait.
 */
function drainWork(
  { queue, upstream = [], costs, devices, arrivalRate, drainMs }: Load,
  level: number,
  { msPerImage }: ServingPlan,
): number {
  const waiting = queue.size + imagesOf(upstream)
  const backlog = Math.max(0, waiting - devices * costs.buckets.at(-1)!)
  const decodable = queue.size + (costs.decodingRate * drainMs) / 1000
  const images = Math.min(backlog + (arrivalRate * drainMs) / 1000, decodable)
  let workMs = work(queue.tally, msPerImage, level)
  for (const { images, maxLevel } of upstream) workMs += images * msPerImage[Math.min(maxLevel, level)]!
  return images * (workMs / Math.max(1, waiting))
}
