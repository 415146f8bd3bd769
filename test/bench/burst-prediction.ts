import { CostModel } from '../../processor/scheduling/cost-model.ts'
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

export interface PredictionOptions {
  trace: BurstTrace
  /** Of the run that is predicted. */
  answers: readonly Answer[]
  /** The service's device while it does nothing else. */
  idle: DeviceCosts
  sloMs: number
  /** Pins the level; default: the load decides. */
  level?: number
}

/** One play of a load is one throw of the dice, above all in its 99th percentile; a prediction is the mean of so many. */
const plays = 5

/**
 * Predicts a run with the simulator, given the times of its requests, the costs of the idle device, and how much
 * slower it was in the burst, for which the callers, the edge and decoding share its cores. Queueing, batching, pruning
 * and what the processor believes of its device are the simulator's.
 */
export function predictBurst({ trace, answers, idle, sloMs, level }: PredictionOptions): BurstPrediction {
  const { costs, jitter } = costsInBurst(idle, { trace, answers })
  const reports = Array.from({ length: plays }, (_, play) =>
    simulate({
      arrivals: trace.arrivalsMs.map((at) => ({ at })),
      costs,
      policy: { name: level === undefined ? 'adaptive' : `level ${level}`, level, autoscale: false },
      fleet: { replicas: 1, sloMs, jitter },
      durationMs: trace.durationMs,
      seed: 1 + play,
    }),
  )
  const latencies = latenciesOf(answers)
  const levels = answers.flatMap(({ pruning }) => pruning?.prune_level ?? [])
  return {
    p50_ms: compare(median(latencies), mean(reports.map(({ p50Ms }) => p50Ms))),
    p99_ms: compare(quantile(latencies, 0.99), mean(reports.map(({ p99Ms }) => p99Ms))),
    mean_level: compare(mean(levels), mean(reports.map(({ meanLevel }) => meanLevel))),
  }
}

const compare = (measured: number, predicted: number): Comparison => ({
  measured,
  predicted,
  difference: predicted === measured ? 0 : predicted / measured - 1,
})

/** Fewer runs of a batch size than this do not say how much slower it was. */
const enoughRuns = 5

/** An idle device's costs as a burst made them: runs slower, each batch size by its own factor, and answers later. */
export function costsInBurst(
  idle: DeviceCosts,
  { trace, answers }: Pick<PredictionOptions, 'trace' | 'answers'>,
): { costs: DeviceCosts /** Standard deviation of the logarithm of run times. */; jitter: number } {
  const inBurst = answers.filter(
    ({ scheduledMs }) => scheduledMs >= trace.beginMs && scheduledMs < trace.endMs,
  )
  const idleTimes = new CostModel(idle)
  const runs = deviceRuns(inBurst, idle.buckets).map(({ bucket, level, ms }) => ({
    bucket,
    slowdown: ms / idleTimes.predict(bucket, level),
  }))
  const overall = median(runs.map(({ slowdown }) => slowdown))
  const slowdowns = new Map(
    [...Map.groupBy(runs, ({ bucket }) => bucket)].flatMap(([bucket, ofSize]) =>
      ofSize.length < enoughRuns ? [] : [[bucket, median(ofSize.map(({ slowdown }) => slowdown))] as const],
    ),
  )
  const slowdownOf = (bucket: number) => slowdowns.get(bucket) ?? overall
  const errors = runs.map(({ bucket, slowdown }) => Math.log(slowdown / slowdownOf(bucket)))
  const afterRun = inBurst.flatMap(({ scheduledMs, answeredMs, pruning }) =>
    pruning ? [answeredMs - scheduledMs - pruning.queue_ms - pruning.inference_ms] : [],
  )
  return {
    costs: {
      ...idle,
      device: `${idle.device}, in a burst`,
      seeds: idle.samples,
      samples: idle.samples.map((run) => ({ ...run, ms: run.ms * slowdownOf(run.bucket) })),
      overheadMs: median(afterRun),
    },
    jitter: Math.sqrt(mean(errors.map((error) => error ** 2))),
  }
}

const mean = (values: readonly number[]) => values.reduce((sum, value) => sum + value, 0) / values.length
