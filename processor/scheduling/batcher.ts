import { type CostModel, worthwhileGain } from './cost-model.ts'
import type { QueueEntry, Tally } from './deadline-order.ts'
import type { Demand } from './least-level.ts'
import { type Backlog, imagesOf, type Lane } from './level.ts'
import { type ControllerOptions, defaultMargin, PruneController } from './prune-controller.ts'
import type { ImageEntry, ImageQueue, QueuedImage } from './queue.ts'
import { leavesRoom, timeForRun } from './queue-head.ts'

/** A run for a free device. */
export interface DeviceBatch<T> {
  /** The lane whose head it serves; batch images may fill the rows that an interactive batch leaves. */
  lane: Lane
  /** 1 to `bucket` images of one group, each of which allows `level`. */
  images: QueuedImage<T>[]
  /** Rows to run; those beyond `images` are padding. */
  bucket: number
  level: number
  /** Run time by the cost model. */
  predictedMs: number
}

/** Places of a batch that runs, in which rows can join it. */
export interface FreePlaces {
  /** At least one. */
  free: number
  /** Maximum time that its rows wait for those that join, ms; a lone one may always join. */
  holdUpMs: number
}

export interface BatcherOptions<T> {
  queue: ImageQueue<T>
  costs: CostModel
  /** Devices that pull batches; default 1. */
  devices?: number
  /**
   * Latency target of interactive images, ms: batch work leaves room for it. Infinity when nobody waits, e.g. when a
   * folder is captioned. Default 500.
   */
  interactiveTargetMs?: number
  /** Time in which an interactive backlog has to be gone, ms; default twice `interactiveTargetMs`. */
  drainMs?: number
  /** Upstream backlog: images of a lane that these devices will serve and that are not in their queue yet; default none. */
  upstream?(lane: Lane, now: number): readonly Backlog[]
  /** Other models whose batches have turns at the devices as long as those of this one; default: none. */
  otherBatches?(): number
  /** However busy the interactive lane is, the batch lane gets a run about this often, ms; default 5000. */
  batchIntervalMs?: number
  controller?: ControllerOptions
  /** True: rows join and leave a batch while it runs, so that a place is free long before a run ends. Default: false. */
  continuous?: boolean
}

/** Time, upstream backlog and room of one decision. */
interface Snapshot {
  now: number
  upstream: Record<Lane, readonly Backlog[]>
  places: FreePlaces
}

/** Candidates are collected for this many runs, so that a run leaves time for those after it. */
const lookaheadRuns = 4
/** Candidates are searched among this many images for each row of the largest bucket. */
const scanPerRow = 16
/** Share of the devices that batch work is assumed to get however many interactive images come in. */
const minBatchShare = 0.05
/** Maximum age of the batch lane's demand where batch images only fill padding, ms. */
const demandAgeMs = 100
/** Batch images join a running batch when this share of its places is free: each time costs those that run already. */
const batchJoinShare = 0.25
/** Interactive images per second below which batch images take every place. */
const leastRate = 0.01
/** An image that can no longer be in time is ordered as if due this much later, ms. */
const latePenaltyMs = 5_000

/**
 * Forms batches for devices that ask. Nothing waits for a batch to fill: a free device gets the best batch that the
 * queued images make. The README of this folder says how images, level and batch size are chosen.
 *
 * @example const batch = batcher.nextBatch(now)
 */
export class Batcher<T> {
  readonly #queue: ImageQueue<T>
  readonly #costs: CostModel
  readonly #options: Required<Omit<BatcherOptions<T>, 'queue' | 'costs' | 'controller'>>
  readonly #slowdown: number
  readonly #controllers: Record<Lane, PruneController>
  #lastBatchDemand: { demand: Demand; at: number } | undefined
  /** Start of the interactive batches that left queued batch images out. */
  #batchSkippedSince: number | undefined

  constructor(options: BatcherOptions<T>) {
    const { devices = 1, interactiveTargetMs = 500, continuous = false, controller } = options
    const { drainMs = 2 * interactiveTargetMs, batchIntervalMs = 5000, upstream = () => [] } = options
    const { otherBatches = () => 0 } = options
    this.#queue = options.queue
    this.#costs = options.costs
    this.#options = {
      ...{ devices, interactiveTargetMs, drainMs, batchIntervalMs, upstream, otherBatches, continuous },
    }
    this.#slowdown = 1 + (controller?.margin ?? defaultMargin)
    this.#controllers = {
      interactive: new PruneController(controller),
      // Work that is on time again is not pruned a moment longer: nobody waits for it.
      batch: new PruneController({ ...controller, holdMs: 0 }),
    }
  }

  /** The level that the lane's load asked for last; single batches may be below it. */
  level(lane: Lane): number {
    return this.#controllers[lane].level
  }

  /** Takes the next batch out of the queue; undefined when nothing waits. `now` is in unix ms. */
  nextBatch(now: number): DeviceBatch<T> | undefined {
    this.#postponeLate(now)
    return this.#take(this.#nextLane(now), now, { free: this.#largest, holdUpMs: Number.POSITIVE_INFINITY })
  }

  /** Takes images out of the queue that join a batch while it runs; undefined when none is to. */
  joining(now: number, places: FreePlaces): DeviceBatch<T> | undefined {
    this.#postponeLate(now)
    const lane = this.#nextLane(now)
    const mayJoin =
      lane === 'interactive' || this.#isBatchTurn(now) || places.free >= this.#largest * batchJoinShare
    return this.#take(mayJoin ? lane : 'interactive', now, places)
  }

  get #largest(): number {
    return this.#costs.buckets.at(-1)!
  }

  #take(lane: Lane, now: number, places: FreePlaces): DeviceBatch<T> | undefined {
    const head = this.#queue.lane(lane).head
    if (head === undefined) return undefined
    if (lane === 'batch') {
      const free = places.free - this.#keptFree(now)
      if (free < 1) return undefined
      places = { ...places, free }
    }
    const { upstream } = this.#options
    const snapshot = {
      now,
      upstream: { interactive: upstream('interactive', now), batch: upstream('batch', now) },
      places,
    }
    const batch =
      lane === 'interactive' ? this.#interactiveBatch(head, snapshot) : this.#batchLaneBatch(head, snapshot)
    for (const { id } of batch.images) this.#queue.remove(id)
    const skipped =
      this.#queue.size('batch') > 0 && batch.images.every((image) => image.lane === 'interactive')
    this.#batchSkippedSince = skipped ? (this.#batchSkippedSince ?? now) : undefined
    return batch
  }

  /** An image that cannot be in time any more lets those pass that can: serving it first would only make others late. */
  #postponeLate(now: number): void {
    const queue = this.#queue.lane('interactive')
    const soonestMs = Math.min(...this.#costs.levels.map((_, level) => this.#costs.runTimes(level)[1]!))
    while (queue.head && queue.head.sortKey === queue.head.deadline && queue.head.deadline < now + soonestMs)
      this.#queue.postpone(queue.head, queue.head.deadline + latePenaltyMs)
  }

  /** Places that batch images leave to interactive ones, which come while those run. */
  #keptFree(now: number): number {
    const hasCallers = this.#queue.arrivalRate('interactive', now) > leastRate
    return this.#options.continuous && hasCallers && this.#largest > 1 && !this.#isBatchTurn(now) ? 1 : 0
  }

  /** Whether batch images go before the interactive ones that wait: those have gone first for long. */
  #isBatchTurn(now: number): boolean {
    const waitedMs = this.#batchSkippedSince === undefined ? 0 : now - this.#batchSkippedSince
    return this.#queue.size('batch') > 0 && waitedMs >= this.#options.batchIntervalMs
  }

  #nextLane(now: number): Lane {
    if (this.#queue.size('interactive') === 0) return 'batch'
    return this.#isBatchTurn(now) ? 'batch' : 'interactive'
  }

  #interactiveBatch(head: ImageEntry<T>, snapshot: Snapshot): DeviceBatch<T> {
    const demand = this.#interactiveDemand(snapshot)
    const level = ownLevel(head, demand)
    const { sameLevel, higherLevel } = this.#candidates(head, level, demand)
    const { devices } = this.#options
    const options = { costs: this.#costs, devices, now: snapshot.now, slowdown: this.#slowdown }
    // A small batch to save the head would cost those behind it more, so an infeasible queue is served at the best rate.
    const budgetMs = demand.feasible ? timeForRun(sameLevel, level, options) : () => Number.POSITIVE_INFINITY
    const { size } = head.image
    const { free } = snapshot.places
    const joinsInTime = this.#joinsInTime(level, size, snapshot)
    const fits = (ms: number, rows: number) => ms <= budgetMs(rows) && joinsInTime(rows)
    const bucket = batchSize(this.#costs, { images: Math.min(sameLevel.length, free), level, size, fits })
    const entries = [...sameLevel, ...higherLevel].slice(0, Math.min(bucket, free))
    const isLastInteractive = entries.length === this.#queue.size('interactive')
    const hasRoom = entries.length < Math.min(free, isLastInteractive ? this.#largest : bucket)
    if (!hasRoom || this.#queue.size('batch') === 0) return this.#batch('interactive', entries, bucket, level)

    const batchFill = this.#batchFill(head, level, snapshot)
    const filled = [...entries, ...batchFill].slice(0, free - this.#keptFree(snapshot.now))
    if (filled.length <= entries.length) return this.#batch('interactive', entries, bucket, level)
    const leavesRoom = this.#roomAfter(level, size, snapshot)
    const filledBucket = batchSize(this.#costs, {
      images: filled.length,
      level,
      size,
      fits: (ms, rows) => isLastInteractive && fits(ms, rows) && leavesRoom(ms, rows, 0),
      smallest: bucket,
    })
    return this.#batch('interactive', filled.slice(0, filledBucket), filledBucket, level)
  }

  #batchLaneBatch(head: ImageEntry<T>, snapshot: Snapshot): DeviceBatch<T> {
    const demand = this.#batchDemand(snapshot)
    const level = ownLevel(head, demand)
    const { sameLevel, higherLevel } = this.#candidates(head, level, demand)
    const waiting = this.#queue.size('interactive')
    const { size } = head.image
    const { free } = snapshot.places
    const joinsInTime = this.#joinsInTime(level, size, snapshot)
    const leavesRoom = this.#roomAfter(level, size, snapshot)
    const fits = (ms: number, rows: number) => leavesRoom(ms, rows, waiting) && joinsInTime(rows)
    const bucket = batchSize(this.#costs, { images: Math.min(sameLevel.length, free), level, size, fits })
    return this.#batch(
      'batch',
      [...sameLevel, ...higherLevel].slice(0, Math.min(bucket, free)),
      bucket,
      level,
    )
  }

  #batch(lane: Lane, entries: readonly ImageEntry<T>[], bucket: number, level: number): DeviceBatch<T> {
    const images = entries.map(({ image }) => image)
    const mostIds = images.flatMap((image) => image.mostIds ?? [])
    const steps = mostIds.length > 0 ? this.#costs.expectedSteps(mostIds) : undefined
    const predictedMs = this.#costs.predict(bucket, level, sizeOf(images), steps)
    return { lane, images, bucket, level, predictedMs }
  }

  #interactiveDemand({ now, upstream }: Snapshot): Demand {
    const { devices, drainMs } = this.#options
    const load = {
      queue: this.#queue.lane('interactive'),
      upstream: upstream.interactive,
      costs: this.#costs,
      devices,
      drainMs,
      arrivalRate: this.#queue.burstRate(now),
    }
    return this.#controllers.interactive.decide(load, now)
  }

  /**
   * Batch work comes after the interactive images that wait or are upstream, and gets the time that later ones leave, in turns with
   * the batches of other models.
   */
  #batchDemand({ now, upstream }: Snapshot): Demand {
    const { devices, otherBatches } = this.#options
    const share = 1 / (1 + otherBatches())
    const interactiveMs = this.#queue.arrivalRate('interactive', now) * this.#costs.best(0).msPerImage
    const load = {
      queue: this.#queue.lane('batch'),
      ahead: addBacklogs(this.#queue.lane('interactive').tally, upstream.interactive),
      upstream: upstream.batch,
      expires: true,
      costs: this.#costs,
      devices: Math.max((devices - interactiveMs / 1000) * share, devices * minBatchShare),
      arrivalRate: 0,
      drainMs: Number.POSITIVE_INFINITY,
    }
    const demand = this.#controllers.batch.decide(load, now)
    this.#lastBatchDemand = { demand, at: now }
    return demand
  }

  /** Images of the head's lane and group that may run at `level`: those whose own level it is, and those that bear more. */
  #candidates(head: ImageEntry<T>, level: number, demand: Demand) {
    const pick = (accept: (entry: ImageEntry<T>) => boolean) =>
      this.#pick(head.image.lane, head.image.group, accept)
    return {
      sameLevel: pick((entry) => ownLevel(entry, demand) === level),
      higherLevel: pick((entry) => entry.minLevel <= level && level < ownLevel(entry, demand)),
    }
  }

  /** Batch images that may run at `level` beside the head without being pruned harder than they need. */
  #batchFill(head: ImageEntry<T>, level: number, snapshot: Snapshot): ImageEntry<T>[] {
    const last = this.#lastBatchDemand
    const isRecent = last !== undefined && snapshot.now - last.at < demandAgeMs
    const demand = isRecent ? last.demand : this.#batchDemand(snapshot)
    const mayRun = (entry: ImageEntry<T>) => entry.minLevel <= level && level <= ownLevel(entry, demand)
    return this.#pick('batch', head.image.group, mayRun)
  }

  #pick(lane: Lane, group: string, accept: (entry: ImageEntry<T>) => boolean): ImageEntry<T>[] {
    const rows = this.#costs.buckets.at(-1)!
    return this.#queue
      .lane(lane)
      .pick(rows * lookaheadRuns, rows * scanPerRow, (entry) => entry.image.group === group && accept(entry))
  }

  /** Tells of so many rows whether those that run wait no longer for them than they may. */
  #joinsInTime(level: number, size: number | undefined, { places }: Snapshot): (rows: number) => boolean {
    return (rows) => this.#costs.predictFirst(rows, level, size) <= places.holdUpMs
  }

  /**
   * Tells of a run whether it leaves the interactive images enough time that are not part of it: after it, or, where they can
   * join, after its first step.
   */
  #roomAfter(level: number, size: number | undefined, { now, upstream }: Snapshot) {
    const { continuous, interactiveTargetMs } = this.#options
    return (ms: number, rows: number, waiting: number): boolean =>
      leavesRoom(continuous ? this.#costs.predictFirst(rows, level, size) : ms, {
        runMs: continuous ? this.#costs.firstTimes(0) : this.#costs.runTimes(0),
        waiting,
        upstream: imagesOf(upstream.interactive),
        arrivalRate: this.#queue.arrivalRate('interactive', now),
        targetMs: interactiveTargetMs,
        slowdown: this.#slowdown,
      })
  }
}

function addBacklogs(tally: Tally, backlogs: readonly Backlog[]): Tally {
  const all = [...tally]
  for (const { images, maxLevel } of backlogs) all[maxLevel]! += images
  return all
}

/** Level of an image by itself: what the load demands of it, within what it allows. */
function ownLevel(entry: QueueEntry, demand: Demand): number {
  const demanded = entry.sortKey <= demand.until ? demand.level : 0
  return Math.max(entry.minLevel, Math.min(entry.maxLevel, demanded))
}

/** Mean size of the rows of a batch; undefined where they have none. */
export function sizeOf(images: readonly Pick<QueuedImage<unknown>, 'size'>[]): number | undefined {
  if (images.every(({ size }) => size === undefined)) return undefined
  return images.reduce((sum, { size = 1 }) => sum + size, 0) / images.length
}

export interface BatchSizeOptions {
  /** Candidates; more than the largest bucket is fine. */
  images: number
  level: number
  /** Size of the rows; default: as usual. */
  size?: number
  /** True when a run may take this long. */
  fits(ms: number, bucket: number): boolean
  /** Buckets below this one are not considered; it is the answer when none fits. Default: the smallest. */
  smallest?: number
}

/** The bucket that serves the most images per ms of those that fit; of buckets about as good, the smallest. */
export function batchSize(
  costs: CostModel,
  { images, level, size, fits, smallest = costs.buckets[0]! }: BatchSizeOptions,
): number {
  let chosen = smallest
  let chosenRate = 0
  for (const bucket of costs.buckets) {
    const ms = costs.predict(bucket, level, size)
    if (bucket < chosen || !fits(ms, bucket)) continue
    const rate = Math.min(images, bucket) / ms
    if (rate > chosenRate * (1 + worthwhileGain)) {
      chosen = bucket
      chosenRate = rate
    }
  }
  return chosen
}
