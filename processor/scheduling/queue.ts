import { ArrivalRate } from './arrival-rate.ts'
import { DeadlineOrder, type QueueEntry } from './deadline-order.ts'
import { type Lane, type Level, maxAllowedLevel } from './level.ts'

/** An image that is ready to run. Times are unix ms. */
export interface QueuedImage<T> {
  id: string
  lane: Lane
  enqueuedAt: number
  /** When the answer is wanted. Absent: never late, so never pruned. */
  deadline?: number
  /** Highest share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  /** Pins a prune level instead of letting the load decide; lowered to what `maxPrune` allows. */
  level?: number
  /** Only images of one group fit into one batch, e.g. those whose prompts have the same length. */
  group: string
  payload: T
}

/** Over how long a burst is looked for, ms. */
const burstMs = 500
/** Standard deviations of a Poisson process by which a rate has to differ to be no chance. */
const chanceDeviations = 1.5

/** An image in its line. */
export interface ImageEntry<T> extends QueueEntry {
  image: QueuedImage<T>
}

/** A lane's images in the order in which they are served, to look at. */
export type LaneQueue<T = unknown> = Omit<DeadlineOrder<ImageEntry<T>>, 'add' | 'remove'>

export interface QueueOptions {
  levels: readonly Level[]
  /** Images each lane holds at most; default 10,000. */
  limits?: Partial<Record<Lane, number>>
  /**
   * Images without a deadline are ordered as if it were this long after `enqueuedAt`, ms, so that newcomers cannot
   * pass them for ever. Default: one minute for interactive images, one day for batch images.
   */
  implicitDeadlineMs?: Partial<Record<Lane, number>>
}

/**
 * The images that wait for a device: two lanes, each ordered by deadline, ties by arrival. Bounded.
 *
 * @example
 * const queue = new ImageQueue<Pixels>({ levels })
 * queue.add({ id, lane: 'interactive', enqueuedAt: now, deadline: now + 500, maxPrune: 1, group: '0', payload }, now)
 */
export class ImageQueue<T> {
  readonly #levels: readonly Level[]
  readonly #limits: Record<Lane, number>
  readonly #implicitDeadlineMs: Record<Lane, number>
  readonly #lanes: Record<Lane, DeadlineOrder<ImageEntry<T>>>
  readonly #rates: Record<Lane, ArrivalRate> = { interactive: new ArrivalRate(), batch: new ArrivalRate() }
  readonly #burst = new ArrivalRate({ timeConstantMs: burstMs })
  readonly #entries = new Map<string, ImageEntry<T>>()
  #arrivals = 0

  constructor({ levels, limits, implicitDeadlineMs }: QueueOptions) {
    this.#levels = levels
    this.#limits = { interactive: 10_000, batch: 10_000, ...limits }
    this.#implicitDeadlineMs = { interactive: 60_000, batch: 86_400_000, ...implicitDeadlineMs }
    this.#lanes = {
      interactive: new DeadlineOrder(levels.length),
      batch: new DeadlineOrder(levels.length),
    }
  }

  /**
   * O(log n).
   * @throws QueueFullError when the lane is at its limit.
   * @throws DuplicateImageError when an image of this id waits already.
   */
  add(image: QueuedImage<T>, now: number): void {
    if (this.#entries.has(image.id)) throw new DuplicateImageError(image.id)
    if (this.isFull(image.lane)) throw new QueueFullError(image.lane, this.#limits[image.lane])
    const entry = this.#entryOf(image)
    this.#entries.set(image.id, entry)
    this.#lanes[image.lane].add(entry)
    this.#rates[image.lane].observe(now)
    if (image.lane === 'interactive') this.#burst.observe(now)
  }

  /** Takes the image out, for a batch or because its caller has gone. O(log n). Undefined when it does not wait. */
  remove(id: string): QueuedImage<T> | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined) return undefined
    this.#entries.delete(id)
    this.#lanes[entry.image.lane].remove(entry)
    return entry.image
  }

  /** Puts an image that waits to where one that is due then stands. O(log n). */
  postpone(entry: ImageEntry<T>, sortKey: number): void {
    const lane = this.#lanes[entry.image.lane]
    if (!lane.remove(entry)) return
    entry.sortKey = sortKey
    lane.add(entry)
  }

  /** Images of the lane that wait; of both lanes when none is named. */
  size(lane?: Lane): number {
    return lane ? this.#lanes[lane].size : this.#entries.size
  }

  isFull(lane: Lane): boolean {
    return this.#lanes[lane].size >= this.#limits[lane]
  }

  lane(lane: Lane): LaneQueue<T> {
    return this.#lanes[lane]
  }

  /** Images per second that have come into the lane of late. */
  arrivalRate(lane: Lane, now: number): number {
    return this.#rates[lane].perSecond(now)
  }

  /** The interactive lane's rate, a burst seen sooner: what came in the last half second counts as far as it is no chance. */
  burstRate(now: number): number {
    const rate = this.#burst.perSecond(now)
    const deviation = Math.sqrt((1000 * rate) / (2 * burstMs))
    return Math.max(this.arrivalRate('interactive', now), rate - chanceDeviations * deviation)
  }

  #entryOf(image: QueuedImage<T>): ImageEntry<T> {
    const { deadline = Number.POSITIVE_INFINITY, level: pinned } = image
    const allowed = maxAllowedLevel(this.#levels, image.maxPrune)
    const neverLate = image.deadline === undefined
    return {
      image,
      deadline,
      sortKey: image.deadline ?? image.enqueuedAt + this.#implicitDeadlineMs[image.lane],
      arrival: this.#arrivals++,
      minLevel: Math.min(pinned ?? 0, allowed),
      maxLevel: Math.min(pinned ?? (neverLate ? 0 : allowed), allowed),
    }
  }
}

/** The lane is at its limit; the image was not taken. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError'
  readonly retriable = true

  constructor(lane: Lane, limit: number) {
    super(`The ${lane} lane is full (${limit} images). Repeat when it has drained.`)
  }
}

/** An image of this id waits already; the second one was not taken. */
export class DuplicateImageError extends Error {
  override readonly name = 'DuplicateImageError'
  readonly retriable = false

  constructor(id: string) {
    super(`Image "${id}" waits already. Remove it first, or give this one an id of its own.`)
  }
}
