import { SimulationInputError } from './errors.ts'

/** Default fleet. Times are ms. */
export const fleetDefaults = {
  /** Processors of one device each at the start, and throughout where the fleet does not scale. */
  replicas: 1,
  /** Deadline of interactive requests without one. */
  sloMs: 500,
  /** Maximum requests in flight of a processor. */
  queueLimit: 1000,
  /** Start-up time of a replica, from the decision to its first image. */
  startMs: 60_000,
  /** Mean time between failures of a replica. */
  mtbfMs: Number.POSITIVE_INFINITY,
  /** Kafka's session timeout. */
  sessionTimeoutMs: 10_000,
  /** Pause of the group during a rebalance. */
  rebalanceMs: 1000,
  /** Time for a draining replica to finish work in flight. */
  drainMs: 25_000,
  /** Share of the replicas that are slow, 0 to 1, and the factor of their run times. */
  stragglers: 0,
  stragglerFactor: 1,
  /** Standard deviation of the logarithm of run times. */
  jitter: 0.05,
  /** Interval at which the fleet's load is sampled, as processors do. */
  sampleMs: 5_000,
  /** Scrape interval of the monitoring. */
  scrapeMs: 15_000,
  /** Interval of the autoscaler's decisions. */
  syncMs: 15_000,
  /** See `AutoscalerOptions`. */
  scaleDownWindowMs: 300_000,
  cooldownMs: 300_000,
  /** Target of unfinished requests per replica. */
  lagThreshold: 100,
}

/** Options of a fleet. Times are ms. */
export type FleetOptions = typeof fleetDefaults & {
  /** Minimum while the fleet scales; default: `replicas`. */
  minReplicas: number
  /** Maximum while the fleet scales; default: four times `replicas`. Never more than there are partitions. */
  maxReplicas: number
  /** Partitions of the topic; default: four for each of `maxReplicas`, at least 12. */
  partitions: number
}

/** With more partitions per replica, replicas that have one more than others matter less. */
const partitionsPerReplica = 4
const fewestPartitions = 12
const mostReplicas = 1000
const mostPartitions = 10_000

/**
 * Fills in defaults.
 * @throws SimulationInputError for an invalid fleet
 */
export function fleetOf(given: Partial<FleetOptions>): FleetOptions {
  const set = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
  const { replicas = fleetDefaults.replicas } = given
  const { minReplicas = replicas, maxReplicas = Math.min(mostReplicas, 4 * replicas) } = given
  const { partitions = Math.max(fewestPartitions, partitionsPerReplica * maxReplicas) } = given
  if (!isWhole(replicas, 1))
    throw new SimulationInputError(`replicas must be from 1 to ${mostReplicas}, got ${replicas}.`)
  if (
    !isWhole(minReplicas, 0) ||
    !isWhole(maxReplicas, 1) ||
    minReplicas > replicas ||
    maxReplicas < replicas
  )
    throw new SimulationInputError(
      `minReplicas and maxReplicas must be from 0 to ${mostReplicas} and include ${replicas} replicas, got ${minReplicas} and ${maxReplicas}.`,
    )
  if (partitions < replicas || partitions > mostPartitions)
    throw new SimulationInputError(
      `partitions must be from ${replicas} (one per replica) to ${mostPartitions}, got ${partitions}. Use ${partitionsPerReplica * replicas} for an even load.`,
    )
  return {
    ...fleetDefaults,
    ...set,
    replicas,
    minReplicas,
    partitions,
    maxReplicas: Math.min(maxReplicas, partitions),
  }
}

const isWhole = (value: number, least: number) =>
  Number.isInteger(value) && value >= least && value <= mostReplicas
