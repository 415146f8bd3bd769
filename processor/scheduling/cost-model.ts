import { type CaptionLength, CaptionLengths } from './caption-lengths.ts'
import type { Level } from './level.ts'
import { StepCost, type StepSample } from './step-cost.ts'

export interface CostModelOptions {
  levels: readonly Level[]
  /** Batch sizes that the device runs, ascending; default 1, 2, 4, 8, 16. */
  buckets?: readonly number[]
  /** At least one calibration run. More cells measured means fewer extrapolated. */
  samples: readonly CostSample[]
  /** Images that are decoded side by side for this device; default 1. */
  decodersAtOnce?: number
}

/** Best batch size of a level. */
export interface BestRun {
  bucket: number
  msPerImage: number
}

/** A batch size that gains less than this over a smaller one is not worth the latency. */
export const worthwhileGain = 0.03
/**
 * Weight of an observed run in its own cell, and in the pace that all cells share. Most changes of speed are common to all
 * cells; kept in single cells, they would stay in those that are not run.
 */
const cellWeight = 0.1
const paceWeight = 0.2
/** A run counts as at most this many times slower or faster than predicted. */
const outlierFactor = 2
const errorWeight = 0.05
/** Weight of a run in the usual size of rows. */
const sizeWeight = 0.05

/**
 * Predicts run times, `cell[level][bucket] * pace` in ms, and the rate at which decoding can supply a device. For models that
 * generate text step by step, a cell is the time up to the first step, in proportion to the size of the rows but for what their size
 * class was seen to differ by, and the steps are added: as many as are expected of the rows' most ids and of the captions lately, or
 * the usual number.
 *
 * Each observed run moves its cell and the pace that all cells share (a hot device, a noisy neighbour), in log space. An outlier, a slow
 * first run among them, is forgotten in a few runs; a lasting change is followed in about ten.
 */
export class CostModel {
  readonly buckets: readonly number[]
  readonly levels: readonly Level[]
  readonly decodersAtOnce: number
  readonly #cells: number[][]
  readonly #decoding = new DecodingCost()
  readonly #steps: StepCost
  readonly #lengths = new CaptionLengths()
  readonly #sizes = new SizeClasses()
  #pace = 1
  /** Usual size of rows. */
  #size = 1
  #relativeError = 0
  /** Derived from the cells; dropped when a run changes them. */
  #derived: Derived | undefined

  /** @throws RangeError when there is no sample, or one that took no time or endless time. */
  constructor({ levels, buckets = [1, 2, 4, 8, 16], samples, decodersAtOnce = 1 }: CostModelOptions) {
    if (samples.length === 0)
      throw new RangeError('A cost model needs at least one calibration run: measure one batch at level 0.')
    for (const { ms } of samples) checkDuration(ms, 'A calibration run')
    this.levels = levels
    this.buckets = buckets
    this.decodersAtOnce = decodersAtOnce
    this.#cells = seedCells(levels, buckets, samples)
    this.#steps = new StepCost(buckets, samples)
  }

  /**
   * Expected time of one run, ms.
   * @param size of its rows, in those of the row that was calibrated with; default: as usual
   * @param steps of its longest row; default: as usual
   * @throws RangeError when there is no such bucket or level
   */
  predict(bucket: number, level: number, size = this.#size, steps?: number): number {
    return this.predictFirst(bucket, level, size) + this.#steps.predict(bucket, steps)
  }

  /** Expected time of so many steps with a batch of this size, ms. */
  predictSteps(bucket: number, steps: number): number {
    return this.#steps.predict(bucket, steps)
  }

  /** Steps behind the first that captions usually have. */
  get usualSteps(): number {
    return this.#steps.usual
  }

  /** Steps behind the first of the longest of several captions, expected of the most ids of each. */
  expectedSteps(mostIds: readonly number[]): number {
    return Math.max(0, this.#lengths.longest(mostIds) - 1)
  }

  /**
   * What a row takes of a device, in usual rows.
   * @param mostIds of its caption
   */
  weight(size = this.#size, mostIds?: number): number {
    const { bucket } = this.best(0)
    const steps = mostIds === undefined ? undefined : this.expectedSteps([mostIds])
    return this.predict(bucket, 0, size, steps) / this.predict(bucket, 0)
  }

  /** Expected time of a run up to its first step, ms. @throws RangeError when there is no such bucket or level */
  predictFirst(bucket: number, level: number, size = this.#size): number {
    const ms = this.#cells[level]?.[this.buckets.indexOf(bucket)]
    if (ms === undefined)
      throw new RangeError(
        `No cell for batch size ${bucket} at level ${level}: batch sizes are ${this.buckets.join(', ')}, levels 0 to ${this.#cells.length - 1}.`,
      )
    return ms * this.#pace * size * this.#sizes.factor(size)
  }

  /** The batch size with the highest rate at this level; of sizes about as good, the smallest. */
  best(level: number): BestRun {
    return this.#follows().best[level]!
  }

  /** For each level, ms per image of the fastest level up to it: one that measures slower than a lower one gains nothing. */
  fastestUpTo(): readonly number[] {
    return this.#follows().fastestUpTo
  }

  /**
   * Shortest time in which one device serves 0, 1, 2, ... images at this level, up to the largest bucket, ms: one run,
   * or several where that costs less than padding.
   */
  servingTimes(level: number): readonly number[] {
    const { servingTimes, runs } = this.#follows()
    servingTimes[level] ??= shortestTimes(runs[level]!, this.buckets)
    return servingTimes[level]
  }

  /** Time of one run with 0, 1, 2, ... images at this level, padded to a batch size, up to the largest bucket, ms. */
  runTimes(level: number): readonly number[] {
    return this.#follows().runTimes[level]!
  }

  /** The same up to the first step. */
  firstTimes(level: number): readonly number[] {
    return this.#follows().firstTimes[level]!
  }

  /** Images per second of one device at the level's best batch size, as far as decoding can supply them. */
  throughput(level: number): number {
    return Math.min(1000 / this.best(level).msPerImage, this.decodingRate)
  }

  /** Corrects the model by a run. @throws RangeError when there is no such bucket or level, or `ms` is no duration. */
  observe(sample: CostSample): void {
    const { bucket, level, ms, size = 1, steps = 0 } = sample
    const first = this.predictFirst(bucket, level, size)
    checkDuration(ms, 'A run')
    const stepsMs = this.#steps.predict(bucket, steps)
    const predicted = first + stepsMs
    this.#relativeError += errorWeight * (Math.abs(ms / predicted - 1) - this.#relativeError)
    this.#steps.observe(sample)
    this.#size += sizeWeight * (size - this.#size)
    const step = Math.log(
      Math.min(
        Math.max(firstMs({ ...sample, stepsMs: sample.stepsMs ?? stepsMs }) / first, 1 / outlierFactor),
        outlierFactor,
      ),
    )
    // What rows of another size take says nothing of the device, nor of those that it was calibrated with.
    if (!this.#sizes.observe(size, step)) {
      this.#cells[level]![this.buckets.indexOf(bucket)]! *= Math.exp(cellWeight * step)
      this.#pace *= Math.exp(paceWeight * step)
    }
    this.#derived = undefined
  }

  /** Corrects the time of steps by some that were run apart from what is before the first. */
  observeSteps(sample: StepSample): void {
    this.#steps.observeTime(sample)
    this.#derived = undefined
  }

  /**
   * Learns how long captions are.
   * @param joined whether the steps of each are apart from those of others, whose batch it joins and leaves
   */
  observeCaption(caption: CaptionLength, joined = false): void {
    this.#lengths.observe(caption)
    if (!joined || caption.ids < 1) return
    this.#steps.observeCount(caption.ids - 1)
    this.#derived = undefined
  }

  /** Recent error of the predictions: mean of `|observed / predicted - 1|`, exponentially weighted. */
  get relativeError(): number {
    return this.#relativeError
  }

  /** Observes the decoding of one image. @throws RangeError when `ms` is no duration. */
  observeDecoding(ms: number): void {
    checkDuration(ms, 'Decoding an image')
    this.#decoding.observe(ms)
  }

  /** Recent decoding time of an image, ms; 0 until one was observed. */
  get decodingMs(): number {
    return this.#decoding.ms
  }

  /** Images per second that decoding can supply; Infinity until one was observed. */
  get decodingRate(): number {
    return (1000 * this.decodersAtOnce) / this.decodingMs
  }

  /** Present cells as samples: they seed a model that knows what this one has learned. */
  samples(): CostSample[] {
    return this.#cells.flatMap((row, level) =>
      row.map((first, index) => {
        const bucket = this.buckets[index]!
        const steps = this.#steps.sampleOf(bucket)
        return { bucket, level, ms: first * this.#pace + (steps.stepsMs ?? 0), ...steps }
      }),
    )
  }

  #follows(): Derived {
    const times = (of: (bucket: number, level: number) => number) =>
      this.levels.map((_, level) => this.buckets.map((bucket) => of(bucket, level)))
    this.#derived ??= {
      ...derive(
        times((bucket, level) => this.predict(bucket, level)),
        this.buckets,
      ),
      firstTimes: times((bucket, level) => this.predictFirst(bucket, level)).map((first) =>
        runTimes(first, this.buckets),
      ),
    }
    return this.#derived
  }
}

type Derived = ReturnType<typeof derive> & { firstTimes: readonly (readonly number[])[] }

/** @param runs expected ms of a run for each level and batch size */
function derive(runs: readonly (readonly number[])[], buckets: readonly number[]) {
  const best = runs.map((times) => bestRun(times, buckets))
  return {
    runs,
    best,
    fastestUpTo: lowestSoFar(best.map(({ msPerImage }) => msPerImage)),
    /** Filled for the levels that are asked for. */
    servingTimes: [] as number[][],
    runTimes: runs.map((times) => runTimes(times, buckets)),
  }
}

function bestRun(times: readonly number[], buckets: readonly number[]): BestRun {
  let best: BestRun = { bucket: 0, msPerImage: Number.POSITIVE_INFINITY }
  for (const [index, bucket] of buckets.entries()) {
    const msPerImage = times[index]! / bucket
    if (msPerImage * (1 + worthwhileGain) < best.msPerImage) best = { bucket, msPerImage }
  }
  return best
}

function shortestTimes(times: readonly number[], buckets: readonly number[]): number[] {
  const serving = [0]
  for (let images = 1; images <= buckets.at(-1)!; images++) {
    let shortest = Number.POSITIVE_INFINITY
    for (let index = 0; index < buckets.length; index++)
      shortest = Math.min(shortest, times[index]! + serving[Math.max(0, images - buckets[index]!)]!)
    serving.push(shortest)
  }
  return serving
}

function runTimes(times: readonly number[], buckets: readonly number[]): number[] {
  const padded = buckets.flatMap((bucket, index) =>
    new Array<number>(bucket - (buckets[index - 1] ?? 0)).fill(times[index]!),
  )
  return [0, ...padded]
}

/** The running minimum. */
export function lowestSoFar(values: readonly number[]): number[] {
  let lowest = Number.POSITIVE_INFINITY
  return values.map((value) => {
    lowest = Math.min(lowest, value)
    return lowest
  })
}

function checkDuration(ms: number, what: string): void {
  if (ms > 0 && Number.isFinite(ms)) return
  throw new RangeError(
    `${what} must take a positive time, got ${ms} ms: measure with performance.now() before and after.`,
  )
}

/** Weight of a run in what its size class differs by. */
const classWeight = paceWeight

/**
 * What rows of a size class, a power of two, take more or less than in proportion to their size: attention over a large picture
 * takes more, what each row takes whatever its size makes a small one dearer. Rows as large as that which was calibrated with
 * differ by nothing.
 */
class SizeClasses {
  readonly #logs = new Map<number, number>()

  factor(size: number): number {
    return Math.exp(this.#logs.get(classOf(size)) ?? 0)
  }

  /** Learns of a run that took `exp(step)` of what was expected. @returns false for the class of the calibrated size */
  observe(size: number, step: number): boolean {
    const sizeClass = classOf(size)
    if (sizeClass === 0) return false
    this.#logs.set(sizeClass, (this.#logs.get(sizeClass) ?? 0) + classWeight * step)
    return true
  }
}

const classOf = (size: number) => Math.round(Math.log2(Math.max(size, Number.MIN_VALUE)))

/** One measured run: `bucket` rows at a prune level took `ms`, `stepsMs` included. */
export interface CostSample extends StepSample {
  level: number
  ms: number
  /** Size of its rows, in those of the row that was calibrated with; default 1. */
  size?: number
}

/** Time of a run up to its first step, ms. */
const firstMs = ({ ms, stepsMs = 0 }: CostSample): number => Math.max(ms - stepsMs, ms / 1000)

interface Point {
  x: number
  y: number
}

/**
 * Expected ms of a run for each level and batch size, `cells[level][bucket index]`: medians of the calibration runs;
 * cells without one are linear in the batch size, and linear in the relative cost of the level, through the nearest
 * measured cells. Never zero or less.
 */
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
      const times = runs.map((run) => firstMs(run) / (run.size ?? 1)).sort((a, b) => a - b)
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

function clamp(value: number, low: number, high: number): number {
  return Math.min(Math.max(value, low), high)
}

/** Weight of a decoded image in the estimate once many have been seen. */
const decodingWeight = 0.05
/** An image counts as at most this many times what they cost so far. */
const decodingOutlierFactor = 4

/**
 * Running mean of decoding times, ms: plain for the first twenty images, so that a slow first one is soon made up for, then
 * exponentially weighted. An outlier counts as at most four times the mean.
 */
export class DecodingCost {
  #ms = 0
  #seen = 0

  /** 0 until an image has been decoded. */
  get ms(): number {
    return this.#ms
  }

  observe(ms: number): void {
    this.#seen++
    const counted = this.#seen === 1 ? ms : Math.min(ms, decodingOutlierFactor * this.#ms)
    this.#ms += Math.max(decodingWeight, 1 / this.#seen) * (counted - this.#ms)
  }
}
