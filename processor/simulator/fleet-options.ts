import { SimulationInputError } from './errors.ts'

/** The fleet that a load meets. Times are ms. */
export interface FleetOptions {
  /** Processors of one device each at the start, and throughout where the fleet does not scale; default 1. */
  replicas: number
  /** At least, while the fleet scales; default: `replicas`. */
  minReplicas: number
  /** At most, while the fleet scales; default: four times `replicas`. Never more than there are partitions. */
  maxReplicas: number
  /** Unfinished requests for each replica: more ask for more replicas; default 100. */
  lagThreshold: number
  /** Partitions of the topic; default: four for each of `maxReplicas`, at least 12. */
  partitions: number
  /** Time in which an interactive request is to be answered that says nothing itself; default 500. */
  sloMs: number
  /** Requests that a processor has in hand at most; default 1000. */
  queueLimit: number
  /** From the decision for a replica to its first image: the machine, the container, the model; default 60,000. */
  startMs: number
  /** Mean time between failures of a replica; default: it never fails. */
  mtbfMs: number
  /** Until Kafka takes the partitions of a dead member away; default 10,000. */
  sessionTimeoutMs: number
  /** For how long a group stops when somebody joins or leaves; default 1000. */
  rebalanceMs: number
  /** Time that a replica which is to go gets to finish what it has in hand; default 25,000. */
  drainMs: number
  /** Share of the replicas that are slow, 0 to 1, and how many times slower; default none. */
  stragglers: number
  stragglerFactor: number
  /** Standard deviation of the logarithm of run times; default 0.05. */
  jitter: number
  /** Interval at which the fleet's load is sampled; default 5000, as processors do. */
  sampleMs: number
  /** Scrape interval of the monitoring; default 15,000. */
  scrapeMs: number
  /** Interval of the autoscaler's decisions; default 15,000. */
  syncMs: number
  /** See `AutoscalerOptions`; default 300,000 each. */
  scaleDownWindowMs: number
  cooldownMs: number
}

export const fleetDefaults = {
  replicas: 1,
  sloMs: 500,
  queueLimit: 1000,
  startMs: 60_000,
  mtbfMs: Number.POSITIVE_INFINITY,
  sessionTimeoutMs: 10_000,
  rebalanceMs: 1000,
  drainMs: 25_000,
  stragglers: 0,
  stragglerFactor: 1,
  jitter: 0.05,
  sampleMs: 5_000,
  scrapeMs: 15_000,
  syncMs: 15_000,
  scaleDownWindowMs: 300_000,
  cooldownMs: 300_000,
  lagThreshold: 100,
} satisfies Partial<FleetOptions>

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
