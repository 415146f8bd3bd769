import type { Level } from './level.ts'

/** One measured run: `bucket` rows at a prune level took `ms`. */
export interface CostSample {
  bucket: number
  level: number
  ms: number
}

export interface CostModelOptions {
  levels: readonly Level[]
  /** Batch sizes that the device runs, ascending; default 1, 2, 4, 8, 16. */
  buckets?: readonly number[]
  /** At least one calibration run. More cells measured means fewer extrapolated. */
  samples: readonly CostSample[]
}

/** The batch size a level is best run at. */
export interface BestRun {
  bucket: number
  msPerImage: number
}

/** A batch size that gains less than this over a smaller one is not worth the latency. */
export const worthwhileGain = 0.03
/** Weight of an observed run in its own cell, and in the pace that all cells share. */
const cellWeight = 0.2
const paceWeight = 0.1
/** A run counts as at most this many times slower or faster than predicted. */
const outlierFactor = 2
const errorWeight = 0.05

/**
 * Predicts how long a device takes for a batch: `cell[level][bucket] * pace`, ms.
 *
 * Cells start as medians of the calibration runs; cells without one are linear in the batch size, and linear in the
 * relative cost of the level, through the nearest measured cells. Each observed run moves its cell, and moves the pace
 * that all cells share (a hot device, a noisy neighbour), in log space. A run counts as at most twice as slow or fast
 * as predicted: an outlier moves the prediction by a fifth and is forgotten in a few runs, while a lasting change is
 * followed in about ten.
 */
export class CostModel {
  readonly buckets: readonly number[]
  readonly levels: readonly Level[]
  readonly #cells: number[][]
  #pace = 1
  #relativeError = 0

  /** @throws RangeError when there is no sample. */
  constructor({ levels, buckets = [1, 2, 4, 8, 16], samples }: CostModelOptions) {
    if (samples.length === 0)
      throw new RangeError('A cost model needs at least one calibration run: measure one batch at level 0.')
    this.levels = levels
    this.buckets = buckets
    this.#cells = seedCells(levels, buckets, samples)
  }

  /** Expected time of one run, ms. @throws RangeError when there is no such bucket or level. */
  predict(bucket: number, level: number): number {
    const ms = this.#cells[level]?.[this.buckets.indexOf(bucket)]
    if (ms === undefined)
      throw new RangeError(
        `No cell for batch size ${bucket} at level ${level}: batch sizes are ${this.buckets.join(', ')}, levels 0 to ${this.#cells.length - 1}.`,
      )
    return ms * this.#pace
  }

  /** The smallest bucket that holds `images`, or the largest when none does. */
  bucketFor(images: number): number {
    return this.buckets.find((bucket) => bucket >= images) ?? this.buckets.at(-1)!
  }

  /** The batch size with the highest rate at this level; of sizes about as good, the smallest. */
  best(level: number): BestRun {
    let best: BestRun = { bucket: 0, msPerImage: Number.POSITIVE_INFINITY }
    for (const bucket of this.buckets) {
      const msPerImage = this.predict(bucket, level) / bucket
      if (msPerImage * (1 + worthwhileGain) < best.msPerImage) best = { bucket, msPerImage }
    }
    return best
  }

  /**
   * For each level the ms per image, at the best batch size, of the fastest level up to it: a level that measures
   * slower than one below it gains nothing.
   */
  fastestUpTo(): number[] {
    return lowestSoFar(this.levels.map((_, level) => this.best(level).msPerImage))
  }

  /**
   * Shortest time in which one device serves 0, 1, 2, ... images at this level, up to the largest bucket, ms: one run,
   * or several where that costs less than padding.
   */
  servingTimes(level: number): number[] {
    const times = [0]
    for (let images = 1; images <= this.buckets.at(-1)!; images++) {
      let shortest = Number.POSITIVE_INFINITY
      for (const bucket of this.buckets)
        shortest = Math.min(shortest, this.predict(bucket, level) + times[Math.max(0, images - bucket)]!)
      times.push(shortest)
    }
    return times
  }

  /** Images per second of one device at the level's best batch size. */
  throughput(level: number): number {
    return 1000 / this.best(level).msPerImage
  }

  /** Corrects the model by a run. @throws RangeError when there is no such bucket or level. */
  observe({ bucket, level, ms }: CostSample): void {
    const ratio = ms / this.predict(bucket, level)
    this.#relativeError += errorWeight * (Math.abs(ratio - 1) - this.#relativeError)
    const step = clamp(Math.log(ratio), -Math.log(outlierFactor), Math.log(outlierFactor))
    this.#cells[level]![this.buckets.indexOf(bucket)]! *= Math.exp(cellWeight * step)
    this.#pace *= Math.exp(paceWeight * step)
  }

  /** How far off the predictions have been of late: mean of `|observed / predicted - 1|`, exponentially weighted. */
  get relativeError(): number {
    return this.#relativeError
  }
}

interface Point {
  x: number
  y: number
}

function seedCells(
  levels: readonly Level[],
  buckets: readonly number[],
  samples: readonly CostSample[],
): number[][] {
  const rows = levels.map((_, level) => {
    const points = medians(samples.filter((sample) => sample.level === level))
    return points.length > 0 ? buckets.map((bucket) => throughPoints(points, bucket)) : undefined
  })
  const column = (index: number): Point[] =>
    levels
      .flatMap(({ relativeCost }, level) => {
        const y = rows[level]?.[index]
        return y === undefined ? [] : [{ x: relativeCost, y }]
      })
      .sort((a, b) => a.x - b.x)
  return levels.map(
    ({ relativeCost }, level) =>
      rows[level] ?? buckets.map((_, index) => throughPoints(column(index), relativeCost)),
  )
}

/** One point for each batch size that was measured, ascending. */
function medians(samples: readonly CostSample[]): Point[] {
  return [...Map.groupBy(samples, ({ bucket }) => bucket)]
    .map(([x, runs]) => {
      const times = runs.map(({ ms }) => ms).sort((a, b) => a - b)
      return { x, y: times[times.length >> 1]! }
    })
    .sort((a, b) => a.x - b.x)
}

/**
 * The line through the two measured points next to `x`, or through the origin when there is only one. Beyond the
 * measured points it never falls and never cuts below the origin, so that no prediction turns zero or negative.
 */
function throughPoints(points: readonly Point[], x: number): number {
  const above = points.findIndex((point) => point.x >= x)
  const right = clamp(above < 0 ? points.length - 1 : above, 1, points.length - 1)
  const a = points[right - 1]
  const b = points[right]
  if (a === undefined || b === undefined) return (points[0]!.y / points[0]!.x) * x
  const slope = (b.y - a.y) / (b.x - a.x)
  if (x < a.x) return a.y - clamp(slope, 0, a.y / a.x) * (a.x - x)
  if (x > b.x) return b.y + Math.max(slope, 0) * (x - b.x)
  return a.y + slope * (x - a.x)
}

/** The running minimum. */
export function lowestSoFar(values: readonly number[]): number[] {
  let lowest = Number.POSITIVE_INFINITY
  return values.map((value) => {
    lowest = Math.min(lowest, value)
    return lowest
  })
}

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}
