import { seededRandom } from '../../infra/starter-model/random.ts'

/** A stretch of time with one mean rate. */
export interface Phase {
  seconds: number
  /** Requests per second. */
  perSecond: number
}

/**
 * Times of a Poisson process whose rate changes from phase to phase, ms from the start, ascending. The same for the
 * same arguments.
 *
 * @example const arrivalsMs = poissonArrivals([{ seconds: 10, perSecond: 8 }, { seconds: 20, perSecond: 80 }], 1)
 */
export function poissonArrivals(phases: readonly Phase[], seed: number): number[] {
  const random = seededRandom(seed)
  const arrivals: number[] = []
  let begin = 0
  for (const { seconds, perSecond } of phases) {
    const end = begin + 1000 * seconds
    // A Poisson process has no memory: a phase may start anew, whenever its last arrival was.
    const gap = () => (-Math.log(1 - random()) * 1000) / perSecond
    for (let at = begin + gap(); at < end; at += gap()) arrivals.push(at)
    begin = end
  }
  return arrivals
}

/** A tenfold burst between two stretches of a base load. */
export interface BurstTrace {
  arrivalsMs: number[]
  /** Images per second. */
  baseRate: number
  burstRate: number
  /** When the burst begins and ends, and when the trace does, ms. */
  beginMs: number
  endMs: number
  durationMs: number
}

/** A base load for half as long as the burst, a burst of `seconds` at ten times its rate, and the base load again. */
export function burstTrace({
  burstRate,
  seconds,
  seed,
}: {
  burstRate: number
  seconds: number
  seed: number
}): BurstTrace {
  const baseRate = burstRate / 10
  const phases = [
    { seconds: 0.5 * seconds, perSecond: baseRate },
    { seconds, perSecond: burstRate },
    { seconds: 0.75 * seconds, perSecond: baseRate },
  ]
  return {
    arrivalsMs: poissonArrivals(phases, seed),
    baseRate,
    burstRate,
    beginMs: 500 * seconds,
    endMs: 1500 * seconds,
    durationMs: 2250 * seconds,
  }
}
