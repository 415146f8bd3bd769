import { quantile } from '../bench/measure.ts'
import type { Ask } from './captions.ts'

/** A time in which callers may notice a fault, ms of `performance.now()`. */
export interface Outage {
  fromMs: number
  toMs: number
}

export interface HonestLatency {
  calmMs: number
  /** In the storm, outside of outages. */
  stormMs: number
  ratio: number
  /** How many requests each is of. */
  calmCount: number
  stormCount: number
}

/**
 * The 99th percentile of the time from the first attempt of a request that waits for its caption to its answer,
 * repeats included. In the storm only those count that neither began nor waited within an outage: for the time that
 * nothing can be served, and for what it takes to come back, there is nothing to promise. Attacks and faults of planners
 * are no outage.
 */
export function honestLatency(
  asks: readonly Ask[],
  { stormFromMs, outages }: { stormFromMs: number; outages: readonly Outage[] },
): HonestLatency {
  const waited = asks.filter(({ form, toMs }) => form !== 'async' && toMs !== undefined) as Required<Ask>[]
  const undisturbed = waited.filter(
    ({ fromMs, toMs }) => !outages.some((outage) => fromMs <= outage.toMs && outage.fromMs <= toMs),
  )
  const calm = waited.filter(({ toMs }) => toMs < stormFromMs)
  const storm = undisturbed.filter(({ fromMs }) => fromMs >= stormFromMs)
  const [calmMs, stormMs] = [calm, storm].map(p99)
  return {
    calmMs: calmMs!,
    stormMs: stormMs!,
    ratio: stormMs! / calmMs!,
    calmCount: calm.length,
    stormCount: storm.length,
  }
}

const p99 = (asks: readonly Required<Ask>[]) =>
  asks.length === 0
    ? Number.NaN
    : quantile(
        asks.map(({ fromMs, toMs }) => toMs - fromMs),
        0.99,
      )
