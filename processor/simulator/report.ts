import type { Level } from '../scheduling/level.ts'
import type { SimulatedBatch } from './batch-load.ts'
import type { DeviceCosts } from './device-costs.ts'
import type { FleetSize } from './fleet.ts'
import type { Outcomes } from './outcomes.ts'
import type { Policy } from './policies.ts'
import type { Simulation } from './simulation.ts'
import type { Arrival } from './traces.ts'

/** Result of a policy under a load. Latencies run from the caller's request to the caller's answer. */
export interface SimulationReport {
  policy: string
  /** Interactive requests. */
  requests: number
  answered: number
  /** Answered after their deadline. */
  late: number
  /** Rejected with 429. */
  shed: number
  /** Share of the requests that were late or rejected, 0 to 1. */
  missShare: number
  /** Latency of answered requests; NaN without any. */
  p50Ms: number
  p99Ms: number
  meanLevel: number
  meanPruneRatio: number
  /** Share of captions that are expected to be the unpruned ones; absent where the levels were not calibrated. */
  meanQuality?: number
  /** Answers in time per second of the load. */
  goodput: number
  replicaHours: number
  /** Replicas at most at a time. */
  mostReplicas: number
  /** Replicas that failed. */
  failures: number
  batch?: BatchResult
  series: SeriesPoint[]
}

interface BatchResult {
  lines: number
  /** End of the last line, ms since the trace began. */
  doneAtMs: number
  inTime: boolean
  meanPruneRatio: number
}

/** A slice of time. Means and quantiles are of what was answered in it; NaN where that was nothing. */
export interface SeriesPoint {
  /** Start of the slice. */
  second: number
  arrivalsPerSecond: number
  p50Ms: number
  p99Ms: number
  meanLevel: number
  /** Replicas that served at its end. */
  replicas: number
}

export interface ReportOptions {
  costs: Pick<DeviceCosts, 'levels'>
  policy: Policy
  sloMs: number
  durationMs: number
  batch: SimulatedBatch | undefined
}

/** Slices of time that a series has at most. */
const slices = 150

export function reportOf({ outcomes, fleet, endedAt }: Simulation, options: ReportOptions): SimulationReport {
  const { costs, policy, durationMs, batch } = options
  const endMs = Math.max(durationMs, endedAt)
  const interactive = requestsWhere(outcomes, ({ lane }) => lane !== 'batch')
  const answered = interactive.filter((request) => outcomes.isAnswered(request))
  const late = answered.filter(
    (request) => latencyOf(outcomes, request) > deadlineOf(outcomes, request, options),
  )
  const latencies = sortedLatencies(outcomes, answered)
  const counts = levelCounts(outcomes, answered, costs.levels.length)
  const rejected = interactive.filter((request) => outcomes.isRejected(request)).length
  return {
    policy: policy.name,
    requests: interactive.length,
    answered: answered.length,
    late: late.length,
    shed: rejected,
    missShare: interactive.length === 0 ? 0 : (late.length + rejected) / interactive.length,
    p50Ms: quantile(latencies, 0.5),
    p99Ms: quantile(latencies, 0.99),
    ...pruningOf(counts, costs.levels),
    goodput: (1000 * (answered.length - late.length)) / Math.max(1, durationMs),
    replicaHours: replicaHours(fleet.sizes, endMs),
    mostReplicas: Math.max(...fleet.sizes.map(({ running }) => running)),
    failures: fleet.failures,
    batch: batch && {
      lines: batch.lines,
      doneAtMs: batch.doneAt!,
      inTime: batch.doneAt! <= batch.deadline,
      meanPruneRatio: pruningOf(batch.linesAtLevel, costs.levels).meanPruneRatio,
    },
    series: seriesOf(outcomes, { interactive, answered, sizes: fleet.sizes, endMs }),
  }
}

const requestsWhere = ({ arrivals }: Outcomes, accept: (arrival: Arrival) => boolean) =>
  Array.from(arrivals.keys()).filter((request) => accept(arrivals[request]!))

const latencyOf = ({ arrivals, answeredAt }: Outcomes, request: number) =>
  answeredAt[request]! - arrivals[request]!.at

const deadlineOf = ({ arrivals }: Outcomes, request: number, { sloMs }: ReportOptions) =>
  arrivals[request]!.deadlineMs ?? sloMs

const sortedLatencies = (outcomes: Outcomes, answered: readonly number[]) =>
  Float64Array.from(answered, (request) => latencyOf(outcomes, request)).sort()

function levelCounts({ level }: Outcomes, answered: readonly number[], levels: number): number[] {
  const counts = new Array<number>(levels).fill(0)
  for (const request of answered) counts[level[request]!]!++
  return counts
}

/** Means over images of which `counts[level]` were run at each level; 0 where there are none. */
function pruningOf(counts: readonly number[], levels: readonly Level[]) {
  const images = Math.max(
    1,
    counts.reduce((sum, count) => sum + count, 0),
  )
  const mean = (of: (level: Level, index: number) => number) =>
    levels.reduce((sum, level, index) => sum + counts[index]! * of(level, index), 0) / images
  const calibrated = levels.every(({ exact }) => exact !== undefined)
  return {
    meanLevel: mean((_, index) => index),
    meanPruneRatio: mean(({ pruneRatio }) => pruneRatio),
    meanQuality: calibrated ? mean(({ exact }) => exact!) : undefined,
  }
}

/** The value below which `share` of the ascending ones lies. */
function quantile(ascending: Float64Array, share: number): number {
  return ascending[Math.min(ascending.length - 1, Math.floor(share * ascending.length))] ?? Number.NaN
}

function replicaHours(sizes: readonly FleetSize[], endMs: number): number {
  const ms = sizes.reduce((sum, { at, running }, i) => {
    const until = Math.min(sizes[i + 1]?.at ?? endMs, endMs)
    return sum + running * Math.max(0, until - at)
  }, 0)
  return ms / 3_600_000
}

interface SeriesInput {
  interactive: readonly number[]
  answered: readonly number[]
  sizes: readonly FleetSize[]
  endMs: number
}

function seriesOf(outcomes: Outcomes, { interactive, answered, sizes, endMs }: SeriesInput): SeriesPoint[] {
  const sliceMs = Math.max(1000, 1000 * Math.ceil(endMs / slices / 1000))
  const count = Math.ceil(endMs / sliceMs)
  const sliceOf = (ms: number) => Math.min(count - 1, Math.floor(ms / sliceMs))
  const arrivals = new Array<number>(count).fill(0)
  for (const request of interactive) arrivals[sliceOf(outcomes.arrivals[request]!.at)]!++
  const done = Array.from({ length: count }, (): number[] => [])
  for (const request of answered) done[sliceOf(outcomes.answeredAt[request]!)]!.push(request)
  return done.map((requests, index) => {
    const latencies = sortedLatencies(outcomes, requests)
    const levels = requests.reduce((sum, request) => sum + outcomes.level[request]!, 0)
    const until = (index + 1) * sliceMs
    return {
      second: (index * sliceMs) / 1000,
      arrivalsPerSecond: (1000 * arrivals[index]!) / sliceMs,
      p50Ms: quantile(latencies, 0.5),
      p99Ms: quantile(latencies, 0.99),
      meanLevel: levels / requests.length,
      replicas: sizes.findLast(({ at }) => at < until)?.serving ?? 0,
    }
  })
}
