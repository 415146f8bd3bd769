import { SimulationInputError } from './errors.ts'

/** Fleet without anything said. Times are ms. */
export const fleetDefaults = {
  /** Processors of one device each at the start, and throughout where the fleet does not scale. */
  replicas: 1,
  /** Deadline of interactive requests without one. */
  sloMs: 500,
  /** Requests that a processor has in hand at most. */
  queueLimit: 1000,
  /** From the decision for a replica to its first image: the machine, the container, the model. */
  startMs: 60_000,
  /** Mean time between failures of a replica. */
  mtbfMs: Number.POSITIVE_INFINITY,
  /** Until Kafka takes the partitions of a dead member away. */
  sessionTimeoutMs: 10_000,
  /** Pause of a group in which somebody joins or leaves. */
  rebalanceMs: 1000,
  /** Time that a draining replica gets to finish what it has in hand. */
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
  /** Unfinished requests for each replica: more ask for more replicas. */
  lagThreshold: 100,
}

/** Fleet that a load meets. Times are ms. */
export type FleetOptions = typeof fleetDefaults & {
  /** Minimum while the fleet scales; default: `replicas`. */
  minReplicas: number
  /** Maximum while the fleet scales; default: four times `replicas`. Never more than there are partitions. */
  maxReplicas: number
  /** Partitions of the topic; default: four for each of `maxReplicas`, at least 12. */
  partitions: number
}

/** Some replicas have a partition more than others: the more partitions there are, the less that is. */
const partitionsPerReplica = 4
const fewestPartitions = 12
const mostReplicas = 1000
const mostPartitions = 10_000

/**
 * Fills in what was not said.
 * @throws SimulationInputError for what makes no fleet
 */
export function fleetOf(given: Partial<FleetOptions>): FleetOptions {
  const said = Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined))
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
      `A fleet that starts with ${replicas} replicas cannot go from ${minReplicas} to ${maxReplicas}: give at least 0 and at most ${mostReplicas}, with ${replicas} between them.`,
    )
  if (partitions < replicas || partitions > mostPartitions)
    throw new SimulationInputError(
      `${partitions} partitions do not suit ${replicas} replicas: each needs one to get any work, and ${mostPartitions} is the most. Give ${partitionsPerReplica * replicas}, so that the load is even.`,
    )
  return {
    ...fleetDefaults,
    ...said,
    replicas,
    minReplicas,
    partitions,
    maxReplicas: Math.min(maxReplicas, partitions),
  }
}

const isWhole = (value: number, least: number) =>
  Number.isInteger(value) && value >= least && value <= mostReplicas
