import type { BurstTrace } from './arrivals.ts'
import type { BurstPrediction, Comparison } from './burst-prediction.ts'
import { bestAtEqualQuality, type PolicySummary, scheduledWithin, summarise } from './burst-summary.ts'
import { median, quantile } from './measure.ts'
import type { Answer } from './traffic-client.ts'

/** Results of a policy, one entry of each list per round. */
export interface PolicyRun {
  /** The fixed level. */
  policy: number | 'adaptive'
  /** Captions per second for callers who never pause. */
  sustained: number[]
  answers: Answer[][]
}

export interface BurstReportOptions {
  /** Of the first round; those of the others differ only in when the requests come. */
  trace: BurstTrace
  sloMs: number
  /** For each level the share of captions that are exact. */
  exact: readonly number[]
  /** Of the first round, for each policy. */
  predictions: BurstPrediction[]
}

type NamedSummary = PolicySummary & { policy: PolicyRun['policy'] }

/** Prints the tables. @returns the fields of the result */
export function reportBurst(
  runs: PolicyRun[],
  { trace, sloMs, exact, predictions }: BurstReportOptions,
): Record<string, unknown> {
  const summaries = runs.map(({ policy, answers }) => {
    const durationMs = trace.durationMs * answers.length
    return { policy, ...summarise(answers.flat(), { sloMs, durationMs, exact }) }
  })
  const adaptive = summaries.find(({ policy }) => policy === 'adaptive')!
  const fixed = summaries.filter(({ policy }) => policy !== 'adaptive')
  const full = fixed[0]!
  const best = bestAtEqualQuality(fixed, adaptive)
  const adaptiveAnswers = runs.at(-1)!.answers
  const steady = steadySummary(adaptiveAnswers, { trace, sloMs, exact })
  printPolicies(summaries, runs)
  printSeconds(adaptiveAnswers[0]!, sloMs)
  printPredictions(runs, predictions)
  const lags = runs.flatMap(({ answers }) =>
    answers.flat().map((answer) => answer.sentMs - answer.scheduledMs),
  )
  return {
    miss_full: full.missShare,
    miss_best_static_at_equal_quality: best?.missShare,
    best_static_level: best?.policy,
    miss_adaptive: adaptive.missShare,
    miss_full_over_adaptive: full.missShare / adaptive.missShare,
    miss_best_static_over_adaptive: best && best.missShare / adaptive.missShare,
    mean_prune_adaptive: adaptive.meanPrune,
    mean_quality_adaptive: adaptive.meanQuality,
    steady_prune_adaptive: steady.meanPrune,
    goodput_full: full.goodput,
    goodput_best_static: best?.goodput,
    goodput_adaptive: adaptive.goodput,
    policies: Object.fromEntries(summaries.map((summary) => [summary.policy, fieldsOf(summary)])),
    predicted: predictions.at(-1),
    client_lag_ms_p50: median(lags),
    client_lag_ms_p99: quantile(lags, 0.99),
  }
}

/** The base load before the burst. */
function steadySummary(answers: Answer[][], options: Omit<BurstReportOptions, 'predictions'>): PolicySummary {
  const { trace } = options
  const before = answers.flatMap((round) => scheduledWithin(round, 0, trace.beginMs))
  return summarise(before, { ...options, durationMs: trace.beginMs * answers.length })
}

const fieldsOf = ({ missShare, p50Ms, p99Ms, meanQuality, meanPrune, goodput }: PolicySummary) => ({
  miss: missShare,
  p50_ms: p50Ms,
  p99_ms: p99Ms,
  quality: meanQuality,
  prune: meanPrune,
  goodput,
})

function printPolicies(summaries: NamedSummary[], runs: PolicyRun[]): void {
  console.log(
    '\npolicy      miss %    late    shed  failed  p50 ms  p99 ms  quality   prune  goodput/s  sustained/s',
  )
  for (const [i, each] of summaries.entries()) {
    const { late, shed, failed } = each.counts
    const cells = [
      (100 * each.missShare).toFixed(2).padStart(8),
      ...[late, shed, failed].map((count) => String(count).padStart(8)),
      ...[each.p50Ms, each.p99Ms].map((ms) => ms.toFixed(0).padStart(8)),
      each.meanQuality.toFixed(4).padStart(9),
      each.meanPrune.toFixed(3).padStart(8),
      each.goodput.toFixed(1).padStart(11),
      median(runs[i]!.sustained).toFixed(1).padStart(13),
    ]
    console.log(`${nameOf(each.policy).padEnd(10)}${cells.join('')}`)
  }
}

const nameOf = (policy: PolicyRun['policy']) =>
  policy === 'adaptive' ? policy : policy === 0 ? 'full' : `level ${policy}`

/** Level over time: one line for each second of scheduled requests. */
function printSeconds(answers: Answer[], sloMs: number): void {
  console.log('\nadaptive, by second   requests  mean level  highest  p50 ms  p99 ms  missed')
  const seconds = Math.ceil((answers.at(-1)?.scheduledMs ?? 0) / 1000)
  for (let second = 0; second < seconds; second++) {
    const sent = scheduledWithin(answers, 1000 * second, 1000 * (second + 1))
    if (sent.length === 0) continue
    const { meanLevel, p50Ms, p99Ms, counts } = summarise(sent, { sloMs, durationMs: 1000, exact: [] })
    const highest = Math.max(0, ...sent.map(({ pruning }) => pruning?.prune_level ?? 0))
    const cells = [
      String(sent.length).padStart(10),
      meanLevel.toFixed(1).padStart(12),
      String(highest).padStart(9),
      ...[p50Ms, p99Ms].map((ms) => ms.toFixed(0).padStart(8)),
      String(sent.length - counts.in_time).padStart(8),
    ]
    console.log(`${String(second).padStart(20)}${cells.join('')}`)
  }
}

function printPredictions(runs: PolicyRun[], predictions: BurstPrediction[]): void {
  console.log('\nmeasured > predicted      p50 ms                 p99 ms             mean level')
  for (const [i, prediction] of predictions.entries()) {
    const { p50_ms, p99_ms, mean_level } = prediction
    const cells = [comparison(p50_ms, 0), comparison(p99_ms, 0), comparison(mean_level, 2)]
    console.log(`${nameOf(runs[i]!.policy).padEnd(10)}${cells.join('')}`)
  }
}

const comparison = ({ measured, predicted, difference }: Comparison, digits: number) =>
  `${measured.toFixed(digits)} > ${predicted.toFixed(digits)} (${(100 * difference).toFixed(0)} %)`.padStart(
    23,
  )
