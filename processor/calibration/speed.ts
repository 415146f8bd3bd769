import type { Schedule } from '../turbo/schedule.ts'

export interface SpeedOptions {
  /** Images in each run. */
  images: number
  /** Runs a full batch. @returns how long it took, ms */
  run(schedule: Schedule): Promise<number>
  /** Default 9. */
  rounds?: number
  /** Maximum rounds, for schedules that seem no faster than the one before; default 45. */
  mostRounds?: number
}

/** Speed of a schedule, images per second. */
export interface Speed {
  /** The median. */
  usual: number
  /** Fastest run: others can only slow a run down, so it separates close schedules on a busy machine. */
  best: number
}

/**
 * Measures schedules, mildest first, in rounds that run each of them in turn, so that a noisy neighbour slows all of them
 * alike. One more round before, which sets up memory, is not counted.
 */
export async function measureSpeeds(
  schedules: readonly Schedule[],
  { images, run, rounds = 9, mostRounds = 45 }: SpeedOptions,
): Promise<Speed[]> {
  const times = schedules.map((): number[] => [])
  const rate = (ms: number) => (1000 * images) / ms
  const best = () => times.map((list) => rate(Math.min(...list)))
  for (const schedule of schedules) await run(schedule)
  for (let round = 1; round <= rounds || (round <= mostRounds && !ascends(best())); round++)
    for (const [i, schedule] of schedules.entries()) times[i]!.push(await run(schedule))
  return best().map((speed, i) => ({ usual: rate(median(times[i]!)), best: speed }))
}

const ascends = (values: readonly number[]) => values.every((value, i) => i === 0 || value > values[i - 1]!)

function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b)
  const middle = sorted.length >> 1
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2
}
