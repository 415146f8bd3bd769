import type { CaptionModel } from '../../processor/models/model.ts'
import type { CostSample } from '../../processor/scheduling/cost-model.ts'
import type { DeviceCosts } from '../../processor/simulator/device-costs.ts'
import { simulate } from '../../processor/simulator/simulate.ts'
import type { BurstTrace } from './arrivals.ts'
import { latenciesOf } from './burst-summary.ts'
import { deviceRuns } from './device-runs.ts'
import { median, quantile } from './measure.ts'
import type { Answer } from './traffic-client.ts'

/** A number as the real run had it and as the simulator says. */
export interface Comparison {
  measured: number
  predicted: number
  /** `predicted / measured - 1`; 0 where both are 0. */
  difference: number
}

export type BurstPrediction = Record<'p50_ms' | 'p99_ms' | 'mean_level', Comparison>

export interface PredictionOptions extends ObservedCostsOptions {
  sloMs: number
  /** Pins the level; default: the load decides. */
  level?: number
}

/**
 * What the simulator says of a run, given when its requests came and what its parts took, against what the run itself
 * was: queueing, batching and pruning are the simulator's, the times of single runs are the device's.
 */
export function predictBurst({ sloMs, level, ...options }: PredictionOptions): BurstPrediction {
  const { trace, answers } = options
  const costs = observedCosts(options)
  const { p50Ms, p99Ms, meanLevel } = simulate({
    arrivals: trace.arrivalsMs.map((at) => ({ at })),
    costs,
    policy: { name: level === undefined ? 'adaptive' : `level ${level}`, level, autoscale: false },
    fleet: { replicas: 1, sloMs, jitter: jitterOf(costs.samples) },
    durationMs: trace.durationMs,
  })
  const latencies = latenciesOf(answers)
  const levels = answers.flatMap(({ pruning }) => pruning?.prune_level ?? [])
  return {
    p50_ms: compare(median(latencies), p50Ms),
    p99_ms: compare(quantile(latencies, 0.99), p99Ms),
    mean_level: compare(levels.reduce((sum, level) => sum + level, 0) / levels.length, meanLevel),
  }
}

const compare = (measured: number, predicted: number): Comparison => ({
  measured,
  predicted,
  difference: predicted === measured ? 0 : predicted / measured - 1,
})

export interface ObservedCostsOptions {
  trace: BurstTrace
  /** Of the run that is predicted. */
  answers: readonly Answer[]
  model: Pick<CaptionModel, 'levels'>
  /** Batch sizes of the service, ascending. */
  buckets: readonly number[]
  /** Decoding of one image, ms. */
  decodeMs: number
  /** Images that are decoded side by side. */
  decoders: number
}

/** What the parts of the service took in a run, as its answers tell it. */
export function observedCosts(options: ObservedCostsOptions): DeviceCosts {
  const { trace, answers, model, buckets, decodeMs, decoders } = options
  const captions = answers.flatMap(({ scheduledMs, answeredMs, pruning }) =>
    pruning ? [{ scheduledMs, totalMs: answeredMs - scheduledMs, ...pruning }] : [],
  )
  // Before the burst the device is idle when an image comes: it waits only until it is there and decoded.
  const calm = captions.filter(({ scheduledMs }) => scheduledMs < trace.beginMs)
  const ahead = median(calm.map(({ queue_ms }) => queue_ms))
  return {
    device: 'as observed',
    levels: model.levels.map(({ pruneRatio, flopShare, quality }) => ({
      pruneRatio,
      relativeCost: flopShare,
      exact: quality?.exact,
    })),
    buckets,
    samples: deviceRuns(answers, buckets),
    ingestMs: Math.max(0, ahead - decodeMs),
    decodeMs,
    decoders,
    overheadMs: median(
      captions.map(({ totalMs, queue_ms, inference_ms }) => totalMs - queue_ms - inference_ms),
    ),
  }
}

/** Standard deviation of the logarithm of run times around the median of their cell. */
export function jitterOf(samples: readonly CostSample[]): number {
  const cells = Map.groupBy(samples, ({ bucket, level }) => `${bucket}/${level}`)
  const logs = [...cells.values()].flatMap((cell) => {
    const middle = median(cell.map(({ ms }) => ms))
    return cell.map(({ ms }) => Math.log(ms / middle))
  })
  return Math.sqrt(logs.reduce((sum, log) => sum + log ** 2, 0) / logs.length)
}
