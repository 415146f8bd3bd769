import { admission } from './admission.ts'
import { Batcher, type BatcherOptions, type DeviceBatch } from './batcher.ts'
import { CostModel } from './cost-model.ts'
import { type Demand, type Load, leastLevels, type SafetyMargins } from './least-level.ts'
import { ImageQueue, type QueuedImage, type QueueOptions } from './queue.ts'

/** Scenes for the tests of this folder: made-up devices, images, and a device that runs on a virtual clock. */

/** Six levels; the highest takes 40 % of the unpruned time. */
export const levels = [0, 0.15, 0.3, 0.45, 0.6, 0.8].map((pruneRatio) => ({
  pruneRatio,
  relativeCost: 1 - 0.75 * pruneRatio,
}))

/** A device that takes `fixedMs` for a run and `rowMs` for each unpruned row in it. */
export function device({
  fixedMs = 4,
  rowMs = 20,
  buckets = [1, 2, 4, 8, 16],
}: {
  fixedMs?: number
  rowMs?: number
  buckets?: readonly number[]
} = {}): CostModel {
  const samples = levels.flatMap(({ relativeCost }, level) =>
    buckets.map((bucket) => ({ bucket, level, ms: fixedMs + bucket * rowMs * relativeCost })),
  )
  return new CostModel({ levels, buckets, samples })
}

/** An interactive image that came at 0, wants its answer at 500, and may be pruned at will. */
export function image(id: string, rest: Partial<QueuedImage<string>> = {}): QueuedImage<string> {
  return {
    id,
    lane: 'interactive',
    enqueuedAt: 0,
    deadline: 500,
    maxPrune: 1,
    group: 'no prompt',
    payload: `pixels of ${id}`,
    ...rest,
  }
}

/** A queue that holds these images, all of which came at 0. */
export function queueOf(
  images: QueuedImage<string>[],
  options: Partial<QueueOptions> = {},
): ImageQueue<string> {
  const queue = new ImageQueue<string>({ levels, ...options })
  for (const each of images) queue.add(each, 0)
  return queue
}

/** A device that takes 100 ms for an image unpruned, 40 ms at the highest level, whatever the batch size. */
export const flat = device({ fixedMs: 0, rowMs: 100, buckets: [1] })

/** One such device with these interactive images before it. */
export const loadOf = (images: QueuedImage<string>[], rest: Partial<Load> = {}): Load => ({
  queue: queueOf(images).lane('interactive'),
  costs: flat,
  devices: 1,
  arrivalRate: 0,
  drainMs: Infinity,
  ...rest,
})

/** Least level with one set of margins. */
export const leastLevel = (load: Load, { now, ...margins }: SafetyMargins & { now: number }): Demand =>
  leastLevels(load, [margins], now)[0]!

/** Image after its run. */
export interface Served {
  image: QueuedImage<string>
  level: number
  startedAt: number
  doneAt: number
}

export interface SimulateOptions extends Partial<Omit<BatcherOptions<string>, 'queue'>> {
  /** True when interactive images may be rejected; default false. */
  admits?: boolean
  /** Run time; default: that of the cost model. */
  runMs?(batch: DeviceBatch<string>): number
}

/** Fate of the arrivals, and work of the devices. */
export interface Outcome {
  served: Served[]
  rejected: QueuedImage<string>[]
  /** Level of the interactive lane at each batch. */
  levels: { at: number; level: number }[]
  /** Device time that was spent, ms. */
  busyMs: number
}

/** Serves arrivals, which come at their `enqueuedAt`, on a virtual clock. */
export function simulate(arrivals: readonly QueuedImage<string>[], options: SimulateOptions = {}): Outcome {
  const { costs = device(), devices = 1, admits = false, runMs = ({ predictedMs }) => predictedMs } = options
  const queue = new ImageQueue<string>({ levels, limits: { interactive: 1e6, batch: 1e6 } })
  const batcher = new Batcher({ ...options, queue, costs, devices })
  const coming = arrivals.toSorted((a, b) => a.enqueuedAt - b.enqueuedAt)
  const freeAt = new Array<number>(devices).fill(0)
  const outcome: Outcome = { served: [], rejected: [], levels: [], busyMs: 0 }
  const arrive = (each: QueuedImage<string>) => {
    const runningMs = Math.max(0, Math.min(...freeAt) - each.enqueuedAt)
    const isTaken =
      !admits ||
      each.lane === 'batch' ||
      admission({ queue, costs, devices, runningMs }, each, each.enqueuedAt).admitted
    if (isTaken) queue.add(each, each.enqueuedAt)
    else outcome.rejected.push(each)
  }
  let next = 0
  let now = 0
  for (;;) {
    const free = freeAt.indexOf(Math.min(...freeAt))
    now = Math.max(now, freeAt[free]!)
    if (queue.size() === 0) {
      if (next === coming.length) return outcome
      now = Math.max(now, coming[next]!.enqueuedAt)
    }
    while (next < coming.length && coming[next]!.enqueuedAt <= now) arrive(coming[next++]!)
    const batch = batcher.nextBatch(now)
    if (batch === undefined) continue
    const ms = runMs(batch)
    freeAt[free] = now + ms
    outcome.busyMs += ms
    outcome.levels.push({ at: now, level: batcher.level('interactive') })
    for (const each of batch.images)
      outcome.served.push({ image: each, level: batch.level, startedAt: now, doneAt: now + ms })
  }
}

/** Interactive images at `perSecond` from `from` to `to` (ms), evenly, or as a Poisson process with `random`. */
export function traffic(
  { from, to, perSecond, random }: { from: number; to: number; perSecond: number; random?: () => number },
  rest: Partial<QueuedImage<string>> = {},
): QueuedImage<string>[] {
  const images: QueuedImage<string>[] = []
  const gap = () => (random ? -Math.log(1 - random()) : 1) * (1000 / perSecond)
  for (let at = from + gap(); at < to; at += gap())
    images.push(
      image(`${rest.lane ?? ''}${from}-${images.length}`, { enqueuedAt: at, deadline: at + 500, ...rest }),
    )
  return images
}
