import { type BatchOptions, SimulatedBatch } from './batch-load.ts'
import type { DeviceCosts } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { type FleetOptions, fleetOf } from './fleet-options.ts'
import type { Policy } from './policies.ts'
import { reportOf, type SimulationReport } from './report.ts'
import { Simulation } from './simulation.ts'
import type { Arrival } from './traces.ts'

export interface SimulationOptions {
  /** Load, e.g. of `poissonArrivals` or of a recorded run. In any order; times are 0 or more. */
  arrivals: readonly Arrival[]
  /** Costs of a processor, from `readDeviceCosts` or from the samples of a cost model. */
  costs: DeviceCosts
  /** Default: adaptive pruning with a fixed fleet. */
  policy?: Policy
  /** Default: one replica, and the defaults of `FleetOptions`. */
  fleet?: Partial<FleetOptions>
  /** Runs beside the requests; default none. */
  batch?: BatchOptions
  /** Duration of the load, ms; default: until the last arrival. */
  durationMs?: number
  /** The same seed gives the same report; default 1. */
  seed?: number
}

const fixedFleet: Policy = { name: 'adaptive-fixed-fleet', autoscale: false }

/**
 * Plays a load against a fleet that runs the scheduling code of the processors on a virtual clock, and reports the
 * result. Every request is answered or rejected once, also when replicas fail.
 *
 * @throws SimulationInputError
 * @example
 * // One processor under a recorded load, by the costs that it measured itself.
 * const { p50Ms, p99Ms, meanLevel, missShare } = simulate({
 *   arrivals: sentAtMs.map((at) => ({ at })),
 *   costs: {
 *     device: 'as measured', levels: costs.levels, buckets: costs.buckets, samples: costs.samples(),
 *     ingestMs: 3, decodeMs: costs.decodingMs, decoders: costs.decodersAtOnce, overheadMs: 4,
 *   },
 * })
 */
export function simulate(options: SimulationOptions): SimulationReport {
  const { costs, policy = fixedFleet, batch, seed = 1 } = options
  if (options.arrivals.length === 0 && batch === undefined)
    throw new SimulationInputError('No load: set arrivals or a batch.')
  if (options.arrivals.some(({ at }) => !(at >= 0)))
    throw new SimulationInputError('Arrival times must be 0 or more, in ms since the trace began.')
  const arrivals = options.arrivals.toSorted((a, b) => a.at - b.at)
  const { durationMs = arrivals.at(-1)?.at ?? 0 } = options
  const run = batch && new SimulatedBatch(batch, costs.levels.length)
  const fleet = fleetOf(options.fleet ?? {})
  const simulation = new Simulation({ arrivals, durationMs, batch: run, costs, fleet, policy, seed })
  return reportOf(simulation.run(), { costs, policy, sloMs: fleet.sloMs, durationMs, batch: run })
}
