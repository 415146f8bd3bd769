/** Load of the whole fleet. */
export interface LoadSnapshot {
  /** Interactive images that come in, per second. */
  arrivalRate: number
  /** Interactive images that wait. */
  waiting: number
  batches: readonly BatchLoad[]
}

export interface BatchLoad {
  /** Unix ms. */
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

/** Replicas that the load needs at full quality, as fractions; the autoscaler rounds up. */
export interface DesiredReplicas {
  interactive: number
  batch: number
}

/** Time left that a late batch counts with, ms. */
const leastLeftMs = 60_000

/**
 * Computes the replicas that the load needs at full quality, so that pruning never hides the need for capacity: interactive
 * images at their arrival rate plus the backlog within the drain time; batches at the rate of the most pressing ones. Every
 * replica gets the same answer from the same load.
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

/** Images per second at which every batch is done in time, earliest deadline first. */
export function pressingRate(batches: readonly BatchLoad[], now: number): number {
  let images = 0
  let rate = 0
  for (const batch of batches.toSorted((a, b) => a.deadline - b.deadline)) {
    images += batch.images
    rate = Math.max(rate, (1000 * images) / Math.max(batch.deadline - now, leastLeftMs))
  }
  return rate
}
