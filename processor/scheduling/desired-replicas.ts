/** The load of the whole fleet. */
export interface LoadSnapshot {
  /** Interactive images that come in, per second. */
  arrivalRate: number
  /** Interactive images that wait. */
  waiting: number
  /** What is left of each batch. */
  batches: readonly BatchLoad[]
}

export interface BatchLoad {
  /** When the batch is to be done, unix ms. */
  deadline: number
  /** Images without a result. */
  images: number
}

export interface DesiredReplicasOptions {
  /** Images per second that one replica serves unpruned, at its best batch size. */
  throughput: number
  /** Share of its time that a replica is to be busy with interactive images: the rest absorbs bursts; default 0.7. */
  interactiveShare?: number
  /** The same for batch work, which may fill a replica nearly; default 0.9. */
  batchShare?: number
  /** Time in which waiting interactive images are to be served, ms; default 30,000. */
  drainMs?: number
}

/** Replicas that the present load needs at full quality, as fractions; whoever scales rounds up. */
export interface DesiredReplicas {
  interactive: number
  batch: number
}

/** A batch that should have been done by now gets this long, ms. */
const leastLeftMs = 60_000

/**
 * What the load needs at full quality, so that pruning never hides the need for capacity: interactive images at the
 * rate at which they come, and those that wait within the drain time; of the batches, ordered by their deadlines, as
 * much as the most pressing ones take together. The same numbers of the fleet give the same answer at every replica.
 */
export function desiredReplicas(
  { arrivalRate, waiting, batches }: LoadSnapshot,
  { throughput, interactiveShare = 0.7, batchShare = 0.9, drainMs = 30_000 }: DesiredReplicasOptions,
  now: number,
): DesiredReplicas {
  return {
    interactive: (arrivalRate + (1000 * waiting) / drainMs) / (throughput * interactiveShare),
    batch: pressingRate(batches, now) / (throughput * batchShare),
  }
}

/** Images per second with which each batch is done in time, if those due sooner go first. */
export function pressingRate(batches: readonly BatchLoad[], now: number): number {
  let images = 0
  let rate = 0
  for (const batch of batches.toSorted((a, b) => a.deadline - b.deadline)) {
    images += batch.images
    rate = Math.max(rate, (1000 * images) / Math.max(batch.deadline - now, leastLeftMs))
  }
  return rate
}
