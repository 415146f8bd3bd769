import type { Random } from '../../infra/starter-model/random.ts'
import type { Lane } from '../scheduling/level.ts'

/** A request of a trace. Times are ms. */
export interface Arrival {
  /** Since the trace began. */
  at: number
  /** ms after `at`; default: the latency target of the service. */
  deadlineMs?: number
  /** Highest share of image tokens that may be merged, 0 to 1; default 1. */
  maxPrune?: number
  /** Default: interactive. */
  lane?: Lane
}

/** Rate of arrivals over time. */
export interface RateCurve {
  durationMs: number
  /** Arrivals per second at `at`, ms. */
  perSecond(at: number): number
  /** Never exceeded by `perSecond`. */
  mostPerSecond: number
}

/** The same rate throughout. */
export function steady({ perSecond, durationMs }: { perSecond: number; durationMs: number }): RateCurve {
  return { durationMs, perSecond: () => perSecond, mostPerSecond: perSecond }
}

export interface BurstOptions {
  /** Arrivals per second before and after the burst. */
  perSecond: number
  /** Rate in the burst over the base rate. */
  factor: number
  burstAtMs: number
  burstMs: number
  durationMs: number
}

/** A base load that jumps for a while. */
export function burst({ perSecond, factor, burstAtMs, burstMs, durationMs }: BurstOptions): RateCurve {
  const inBurst = (at: number) => at >= burstAtMs && at < burstAtMs + burstMs
  return {
    durationMs,
    perSecond: (at) => (inBurst(at) ? perSecond * factor : perSecond),
    mostPerSecond: perSecond * Math.max(1, factor),
  }
}

export interface DiurnalOptions {
  /** Arrivals per second at the quietest time, which is when the trace begins and ends. */
  perSecond: number
  /** Rate at the busiest time, half a day later, over the base rate. */
  factor: number
  /** Length of a day, ms; less than 24 hours is a day in quick motion. */
  durationMs: number
}

/** A day: a cosine from the quietest time to the busiest and back. */
export function diurnal({ perSecond, factor, durationMs }: DiurnalOptions): RateCurve {
  const daylight = (at: number) => (1 - Math.cos((2 * Math.PI * at) / durationMs)) / 2
  return {
    durationMs,
    perSecond: (at) => perSecond * (1 + (factor - 1) * daylight(at)),
    mostPerSecond: perSecond * Math.max(1, factor),
  }
}

/**
 * Arrivals as independent callers make them: a Poisson process whose rate follows the curve, drawn by thinning
 * (Lewis and Shedler, 1979).
 *
 * @returns arrivals in the order of time
 * @example const arrivals = poissonArrivals(steady({ perSecond: 50, durationMs: 60_000 }), seededRandom(1))
 */
export function poissonArrivals(curve: RateCurve, random: Random): Arrival[] {
  const { durationMs, perSecond, mostPerSecond } = curve
  const arrivals: Arrival[] = []
  const gapMs = () => (-Math.log(1 - random()) * 1000) / mostPerSecond
  for (let at = gapMs(); at < durationMs; at += gapMs())
    if (random() * mostPerSecond < perSecond(at)) arrivals.push({ at })
  return arrivals
}
