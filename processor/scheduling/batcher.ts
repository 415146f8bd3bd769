import { type CostModel, worthwhileGain } from './cost-model.ts'
import type { QueueEntry, Tally } from './deadline-order.ts'
import type { Demand } from './least-level.ts'
import { type Backlog, imagesOf, type Lane } from './level.ts'
import { type ControllerOptions, defaultMargin, PruneController } from './prune-controller.ts'
import type { ImageEntry, ImageQueue, QueuedImage } from './queue.ts'
import { leavesRoom, timeForRun } from './queue-head.ts'

/** What a free device is to run next. */
export interface Batch<T> {
  /** The lane that was served; batch images may fill the rows that an interactive batch leaves. */
  lane: Lane
  /** 1 to `bucket` images of one group, each of which allows `level`. */
  images: QueuedImage<T>[]
  /** Rows to run; those beyond `images` are padding. */
  bucket: number
  level: number
  /** What the cost model expects of the run. */
  predictedMs: number
}

export interface BatcherOptions<T> {
  queue: ImageQueue<T>
  costs: CostModel
  /** Devices that pull batches; default 1. */
  devices?: number
  /**
   * Time within which an interactive image should be done, ms: batch work leaves room for it. Infinity when nobody
   * waits, e.g. when a folder is captioned. Default 500.
   */
  interactiveTargetMs?: number
  /** Time in which an interactive backlog has to be gone, ms; default twice `interactiveTargetMs`. */
  drainMs?: number
  /** Images of a lane that these devices will have to serve but that are not in their queue yet; default none. */
  upstream?(lane: Lane, now: number): readonly Backlog[]
  /** However busy the interactive lane is, the batch lane gets a run about this often, ms; default 5000. */
  batchIntervalMs?: number
  controller?: ControllerOptions
}

/** When a decision is made, and what is on its way to the queue then. */
interface Snapshot {
  now: number
  upstream: Record<Lane, readonly Backlog[]>
}

/** Companions are looked at for this many runs ahead, so that a run leaves time for those after it. */
const runsAhead = 4
/** Companions of the head are looked for among this many images for each row of the largest bucket. */
const scanPerRow = 16
/** Share of the devices that batch work is taken to get however many interactive images come in. */
const leastBatchShare = 0.05
/** What batches ask for changes slowly: rows that would be padding go by what was asked for this long ago at most, ms. */
const demandAgeMs = 100
/** An image that cannot be in time any more steps behind those that are due up to this long after it, ms. */
const latePenaltyMs = 5_000

/**
 * Puts batches together for the devices that ask. Nothing waits for a batch to fill: a free device gets the best
 * batch that the waiting images make.
 *
 * The head of the interactive line leads, except that an image which cannot be in time any more lets those pass that can:
 * serving it first would only make others late. Without one, the head of the batch line. Its level is what the prune
 * controller demands, within what the image allows. Images whose own level is the same ride along, in order; those
 * that would bear a harder one take rows that would be padding, so whoever must not be pruned is served in its turn and
 * never in a harder batch; then batch images fill up, as far as the interactive images in the batch, and those that may
 * come in meanwhile, stay in time.
 *
 * Level and batch size are chosen together. The level is the least one at which the line can be cut into runs that all
 * end in time, so it rises not only where the best batch size is too slow, but also where a head in a hurry forces
 * batches so small that those behind it would be late: then level 1 in a batch of 16 is better than level 0 in two of 8.
 * At that level the batch takes the size with the highest rate, of about equal ones the smallest, among those that leave
 * a way to cut the rest in time. When not even the hardest level holds the line, the rate alone counts: a small batch to
 * save the head would cost those behind it more.
 *
 * @example
 * const batch = batcher.nextBatch(now)
 * if (batch) costs.observe({ bucket: batch.bucket, level: batch.level, ms: await run(batch) })
 */
export class Batcher<T> {
  readonly #queue: ImageQueue<T>
  readonly #costs: CostModel
  readonly #devices: number
  readonly #interactiveTargetMs: number
  readonly #drainMs: number
  readonly #batchIntervalMs: number
  readonly #upstream: (lane: Lane, now: number) => readonly Backlog[]
  readonly #slowdown: number
  readonly #controllers: Record<Lane, PruneController>
  #lastBatchDemand: { demand: Demand; at: number } | undefined
  /** When an interactive batch was first preferred to the batch images that wait. */
  #batchSkippedSince: number | undefined

  constructor(options: BatcherOptions<T>) {
    this.#queue = options.queue
    this.#costs = options.costs
    this.#devices = options.devices ?? 1
    this.#interactiveTargetMs = options.interactiveTargetMs ?? 500
    this.#drainMs = options.drainMs ?? 2 * this.#interactiveTargetMs
    this.#batchIntervalMs = options.batchIntervalMs ?? 5000
    this.#upstream = options.upstream ?? (() => [])
    this.#slowdown = 1 + (options.controller?.margin ?? defaultMargin)
    this.#controllers = {
      interactive: new PruneController(options.controller),
      // Work that is on time again is not pruned a moment longer: nobody waits for it.
      batch: new PruneController({ ...options.controller, holdMs: 0 }),
    }
  }

  /** The level that the lane's load asked for last; single batches may be below it. */
  level(lane: Lane): number {
    return this.#controllers[lane].level
  }

  /** Takes the next batch out of the queue; undefined when nothing waits. `now` is in unix ms. */
  nextBatch(now: number): Batch<T> | undefined {
    this.#postponeLate(now)
    const lane = this.#nextLane(now)
    const head = this.#queue.lane(lane).head
    if (head === undefined) return undefined
    const upstream = { interactive: this.#upstream('interactive', now), batch: this.#upstream('batch', now) }
    const snapshot = { now, upstream }
    const batch =
      lane === 'interactive' ? this.#interactiveBatch(head, snapshot) : this.#batchLaneBatch(head, snapshot)
    for (const { id } of batch.images) this.#queue.remove(id)
    const skipped =
      this.#queue.size('batch') > 0 && batch.images.every((image) => image.lane === 'interactive')
    this.#batchSkippedSince = skipped ? (this.#batchSkippedSince ?? now) : undefined
    return batch
  }

  #postponeLate(now: number): void {
    const queue = this.#queue.lane('interactive')
    const soonestMs = Math.min(...this.#costs.levels.map((_, level) => this.#costs.runTimes(level)[1]!))
    while (queue.head && queue.head.sortKey === queue.head.deadline && queue.head.deadline < now + soonestMs)
      this.#queue.postpone(queue.head, queue.head.deadline + latePenaltyMs)
  }

  #nextLane(now: number): Lane {
    if (this.#queue.size('interactive') === 0) return 'batch'
    const waitedMs = this.#batchSkippedSince === undefined ? 0 : now - this.#batchSkippedSince
    return this.#queue.size('batch') > 0 && waitedMs >= this.#batchIntervalMs ? 'batch' : 'interactive'
  }

  #interactiveBatch(head: ImageEntry<T>, snapshot: Snapshot): Batch<T> {
    const demand = this.#interactiveDemand(snapshot)
    const level = ownLevel(head, demand)
    const { sameLevel, higherLevel } = this.#candidates(head, level, demand)
    const options = {
      costs: this.#costs,
      devices: this.#devices,
      now: snapshot.now,
      slowdown: this.#slowdown,
    }
    const budgetMs = demand.feasible ? timeForRun(sameLevel, level, options) : () => Number.POSITIVE_INFINITY
    const fits = (ms: number, rows: number) => ms <= budgetMs(rows)
    const bucket = batchSize(this.#costs, { images: sameLevel.length, level, fits })
    const entries = [...sameLevel, ...higherLevel].slice(0, bucket)
    const isLastInteractive = entries.length === this.#queue.size('interactive')
    const hasRoom = entries.length < (isLastInteractive ? this.#costs.buckets.at(-1)! : bucket)
    if (!hasRoom || this.#queue.size('batch') === 0) return this.#batch('interactive', entries, bucket, level)

    const batchFill = this.#batchFill(head, level, snapshot)
    const filledBucket = batchSize(this.#costs, {
      images: entries.length + batchFill.length,
      level,
      fits: (ms, rows) => isLastInteractive && fits(ms, rows) && this.#leavesRoom(ms, 0, snapshot),
      smallest: bucket,
    })
    return this.#batch('interactive', [...entries, ...batchFill].slice(0, filledBucket), filledBucket, level)
  }

  #batchLaneBatch(head: ImageEntry<T>, snapshot: Snapshot): Batch<T> {
    const demand = this.#batchDemand(snapshot)
    const level = ownLevel(head, demand)
    const { sameLevel, higherLevel } = this.#candidates(head, level, demand)
    const waiting = this.#queue.size('interactive')
    const fits = (ms: number) => this.#leavesRoom(ms, waiting, snapshot)
    const bucket = batchSize(this.#costs, { images: sameLevel.length, level, fits })
    return this.#batch('batch', [...sameLevel, ...higherLevel].slice(0, bucket), bucket, level)
  }

  #batch(lane: Lane, entries: readonly ImageEntry<T>[], bucket: number, level: number): Batch<T> {
    const predictedMs = this.#costs.predict(bucket, level)
    return { lane, images: entries.map(({ image }) => image), bucket, level, predictedMs }
  }

  #interactiveDemand({ now, upstream }: Snapshot): Demand {
    const load = {
      queue: this.#queue.lane('interactive'),
      upstream: upstream.interactive,
      costs: this.#costs,
      devices: this.#devices,
      arrivalRate: this.#queue.burstRate(now),
      drainMs: this.#drainMs,
    }
    return this.#controllers.interactive.decide(load, now)
  }

  /**
   * Batch work comes after the interactive images that wait or are on their way, and gets the time that those to come
   * leave it.
   */
  #batchDemand({ now, upstream }: Snapshot): Demand {
    const interactiveMs = this.#queue.arrivalRate('interactive', now) * this.#costs.best(0).msPerImage
    const interactiveShare = interactiveMs / 1000
    const load = {
      queue: this.#queue.lane('batch'),
      ahead: addBacklogs(this.#queue.lane('interactive').tally, upstream.interactive),
      upstream: upstream.batch,
      expires: true,
      costs: this.#costs,
      devices: Math.max(this.#devices - interactiveShare, this.#devices * leastBatchShare),
      arrivalRate: 0,
      drainMs: Number.POSITIVE_INFINITY,
    }
    const demand = this.#controllers.batch.decide(load, now)
    this.#lastBatchDemand = { demand, at: now }
    return demand
  }

  /** Images of the head's line and group that may run at `level`: those whose own level it is, and hardier ones. */
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
    const asked = this.#lastBatchDemand
    const isRecent = asked !== undefined && snapshot.now - asked.at < demandAgeMs
    const demand = isRecent ? asked.demand : this.#batchDemand(snapshot)
    return this.#pick(
      'batch',
      head.image.group,
      (entry) => entry.minLevel <= level && level <= ownLevel(entry, demand),
    )
  }

  #pick(lane: Lane, group: string, accept: (entry: ImageEntry<T>) => boolean): ImageEntry<T>[] {
    const rows = this.#costs.buckets.at(-1)!
    return this.#queue
      .lane(lane)
      .pick(rows * runsAhead, rows * scanPerRow, (entry) => entry.image.group === group && accept(entry))
  }

  /** Whether a run of `ms` leaves the interactive images enough time that are not part of it. */
  #leavesRoom(ms: number, waiting: number, { now, upstream }: Snapshot): boolean {
    return leavesRoom(ms, {
      costs: this.#costs,
      waiting,
      upstream: imagesOf(upstream.interactive),
      arrivalRate: this.#queue.arrivalRate('interactive', now),
      targetMs: this.#interactiveTargetMs,
      slowdown: this.#slowdown,
    })
  }
}

function addBacklogs(tally: Tally, backlogs: readonly Backlog[]): Tally {
  const all = [...tally]
  for (const { images, maxLevel } of backlogs) all[maxLevel]! += images
  return all
}

/** The level this image would be run at by itself: what the load demands of it, within what it allows. */
function ownLevel(entry: QueueEntry, demand: Demand): number {
  const demanded = entry.sortKey <= demand.until ? demand.level : 0
  return Math.max(entry.minLevel, Math.min(entry.maxLevel, demanded))
}

export interface BatchSizeOptions {
  /** Images that could ride; more than the largest bucket is fine. */
  images: number
  level: number
  /** Whether a run that takes this long is acceptable. */
  fits(ms: number, bucket: number): boolean
  /** Buckets below this one are not considered; it is the answer when none fits. Default: the smallest. */
  smallest?: number
}

/** The bucket that serves the most images per ms of those that fit; of buckets about as good, the smallest. */
export function batchSize(costs: CostModel, { images, level, fits, smallest }: BatchSizeOptions): number {
  let chosen = smallest ?? costs.buckets[0]!
  let chosenRate = 0
  for (const bucket of costs.buckets) {
    const ms = costs.predict(bucket, level)
    if (bucket < chosen || !fits(ms, bucket)) continue
    const rate = Math.min(images, bucket) / ms
    if (rate > chosenRate * (1 + worthwhileGain)) {
      chosen = bucket
      chosenRate = rate
    }
  }
  return chosen
}
