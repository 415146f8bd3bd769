import { ArrivalRate } from './arrival-rate.ts'
import { DeadlineOrder, type QueueEntry } from './deadline-order.ts'
import { type Lane, type Level, maxAllowedLevel } from './level.ts'

/** Image that is ready to run. Times are unix ms. */
export interface QueuedImage<T> {
  id: string
  lane: Lane
  enqueuedAt: number
  /** Absent: never late, so never pruned. */
  deadline?: number
  /** Highest share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
  /** Pins a prune level instead of letting the load decide; lowered to what `maxPrune` allows. */
  level?: number
  /** Images of one batch share their group, e.g. the length of their prompts. */
  group: string
  /** Size of the row, in those of the row that was calibrated with; that of its group is about the same. Default 1. */
  size?: number
  /** Most ids of its caption, of models that make them step by step. */
  mostIds?: number
  /** What it takes of a device, in usual images; default 1. */
  weight?: number
  payload: T
}

/** Time constant in which bursts are detected, ms. */
const burstMs = 500
/** Standard deviations of a Poisson process by which a rate must exceed chance. */
const chanceDeviations = 1.5

/** Image with its place in the order of its lane. */
export interface ImageEntry<T> extends QueueEntry {
  image: QueuedImage<T>
}

/** Read-only queue of a lane, in the order of service. */
export type LaneQueue<T = unknown> = Omit<DeadlineOrder<ImageEntry<T>>, 'add' | 'remove'>

export interface QueueOptions {
  levels: readonly Level[]
  /** Images each lane holds at most; default 10,000. */
  limits?: Partial<Record<Lane, number>>
  /**
   * Deadline that orders images without one, ms after `enqueuedAt`, so that later images cannot pass them for ever.
   * Default: one minute for interactive images, one day for batch images.
   */
  implicitDeadlineMs?: Partial<Record<Lane, number>>
}

/**
 * Bounded queue of the images that wait for a device: two lanes, each ordered by deadline, ties by arrival.
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
  /** Images of each group that wait, by lane. */
  readonly #groups: Record<Lane, Map<string, number>> = { interactive: new Map(), batch: new Map() }
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
    this.#countGroup(image, 1)
    this.#rates[image.lane].observe(now)
    if (image.lane === 'interactive') this.#burst.observe(now)
  }

  /** Removes an image, for a batch or because its caller has gone. O(log n). @returns undefined when it does not wait */
  remove(id: string): QueuedImage<T> | undefined {
    const entry = this.#entries.get(id)
    if (entry === undefined) return undefined
    this.#entries.delete(id)
    this.#lanes[entry.image.lane].remove(entry)
    this.#countGroup(entry.image, -1)
    return entry.image
  }

  /** Moves an entry to another position. O(log n). */
  postpone(entry: ImageEntry<T>, sortKey: number): void {
    const lane = this.#lanes[entry.image.lane]
    if (!lane.remove(entry)) return
    entry.sortKey = sortKey
    lane.add(entry)
  }

  /** Number of images in the lane; in both lanes when none is named. */
  size(lane?: Lane): number {
    return lane ? this.#lanes[lane].size : this.#entries.size
  }

  isFull(lane: Lane): boolean {
    return this.#lanes[lane].size >= this.#limits[lane]
  }

  /** Number of groups that images of the lane belong to. */
  groups(lane: Lane): number {
    return this.#groups[lane].size
  }

  #countGroup({ lane, group }: QueuedImage<T>, change: 1 | -1): void {
    const groups = this.#groups[lane]
    const count = (groups.get(group) ?? 0) + change
    if (count > 0) groups.set(group, count)
    else groups.delete(group)
  }

  lane(lane: Lane): LaneQueue<T> {
    return this.#lanes[lane]
  }

  /** Recent arrivals into the lane per second. */
  arrivalRate(lane: Lane, now: number): number {
    return this.#rates[lane].perSecond(now)
  }

  /** Arrival rate of the interactive lane that follows a burst within half a second, as far as it exceeds chance. */
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
      weight: inSteps(image.weight ?? 1),
    }
  }
}

/** In 64ths, of which sums are exact. */
const inSteps = (weight: number): number => Math.min(Math.max(Math.round(64 * weight), 1), maxSteps) / 64
const maxSteps = 64 * 10_000

/** Lane at its limit; the image was not queued. */
export class QueueFullError extends Error {
  override readonly name = 'QueueFullError'
  readonly retriable = true

  constructor(lane: Lane, limit: number) {
    super(`The ${lane} lane is full (${limit} images). Retry when it has drained.`)
  }
}

/** Duplicate id; the second image was not queued. */
export class DuplicateImageError extends Error {
  override readonly name = 'DuplicateImageError'
  readonly retriable = false

  constructor(id: string) {
    super(`Image "${id}" is already queued. Remove it first, or use another id.`)
  }
}
