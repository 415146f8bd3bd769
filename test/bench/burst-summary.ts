import { quantile } from './measure.ts'
import type { Answer } from './traffic-client.ts'

/** Outcome of a request; all but `in_time` are misses. */
export type Outcome = 'in_time' | 'late' | 'shed' | 'failed'

/** A caption, or the promise of one, that comes behind the SLO is late; a 429 is shed. */
export function outcomeOf({ scheduledMs, answeredMs, status, pruning }: Answer, sloMs: number): Outcome {
  if (status === 429) return 'shed'
  if (pruning) return answeredMs - scheduledMs <= sloMs ? 'in_time' : 'late'
  return status === 202 ? 'late' : 'failed'
}

/** Summary of a policy on a trace. Shares are 0 to 1, of all requests; means are of the captions. */
export interface PolicySummary {
  requests: number
  missShare: number
  counts: Record<Outcome, number>
  /** Captions within the SLO per second of the trace. */
  goodput: number
  /** From when the request was to be sent to its caption, ms; NaN without any caption. */
  p50Ms: number
  p99Ms: number
  meanLevel: number
  meanPrune: number
  /** Share of captions that are expected to be exact. */
  meanQuality: number
}

export interface SummaryOptions {
  sloMs: number
  durationMs: number
  /** For each level the share of captions that are exact. */
  exact: readonly number[]
}

export function summarise(answers: readonly Answer[], options: SummaryOptions): PolicySummary {
  const counts = { in_time: 0, late: 0, shed: 0, failed: 0 }
  for (const answer of answers) counts[outcomeOf(answer, options.sloMs)]++
  const captions = answers.flatMap(({ pruning }) => pruning ?? [])
  const latencies = latenciesOf(answers)
  return {
    requests: answers.length,
    missShare: 1 - counts.in_time / answers.length,
    counts,
    goodput: (1000 * counts.in_time) / options.durationMs,
    p50Ms: latencies.length > 0 ? quantile(latencies, 0.5) : Number.NaN,
    p99Ms: latencies.length > 0 ? quantile(latencies, 0.99) : Number.NaN,
    meanLevel: mean(captions.map(({ prune_level }) => prune_level)),
    meanPrune: mean(captions.map(({ prune_ratio }) => prune_ratio)),
    meanQuality: mean(captions.map(({ prune_level }) => options.exact[prune_level]!)),
  }
}

/** Of the captions, ms. */
export const latenciesOf = (answers: readonly Answer[]): number[] =>
  answers
    .filter(({ pruning }) => pruning)
    .map(({ scheduledMs, answeredMs }) => Math.max(0, answeredMs - scheduledMs))

/** The requests that were to be sent from `fromMs` on and before `toMs`. */
export const scheduledWithin = (answers: readonly Answer[], fromMs: number, toMs: number): Answer[] =>
  answers.filter(({ scheduledMs }) => scheduledMs >= fromMs && scheduledMs < toMs)

/**
 * Of the fixed policies whose captions are at least as good as `adaptive`'s, the one that misses least: what an
 * operator who had to settle for one level could have had at no loss of quality.
 */
export function bestAtEqualQuality<Policy extends PolicySummary>(
  fixed: readonly Policy[],
  adaptive: PolicySummary,
): Policy | undefined {
  return fixed
    .filter(({ meanQuality }) => meanQuality >= adaptive.meanQuality)
    .toSorted((a, b) => a.missShare - b.missShare)[0]
}

const mean = (values: readonly number[]): number =>
  values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length)
