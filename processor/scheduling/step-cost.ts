/** Steps of a run. */
export interface StepSample {
  /** Rows of the run. */
  bucket: number
  /** Steps behind the first, of the longest text; default: none. */
  steps?: number
  /** Their time, ms; absent where it is not known apart, and taken to be as before. */
  stepsMs?: number
}

/** Weight of an observed run. */
const weight = 0.1
/** A step counts as at most this many times slower or faster than those before. */
const outlierFactor = 2

/**
 * Time of the steps of a text behind its first: how long one takes at each batch size, and how many there usually are. Nothing of
 * models whose runs have no steps that are known apart.
 */
export class StepCost {
  readonly #buckets: readonly number[]
  /** Of each batch size, ms; undefined where none was seen. */
  readonly #msPerStep: (number | undefined)[]
  #steps: number

  constructor(buckets: readonly number[], samples: readonly StepSample[]) {
    this.#buckets = buckets
    const withSteps = samples.filter(({ steps = 0, stepsMs }) => steps > 0 && stepsMs !== undefined)
    this.#steps = mean(withSteps.map(({ steps }) => steps!)) ?? 0
    this.#msPerStep = buckets.map((bucket) =>
      mean(
        withSteps
          .filter((sample) => sample.bucket === bucket)
          .map(({ steps, stepsMs = 0 }) => stepsMs / steps!),
      ),
    )
  }

  /** Steps of a text, as usual. */
  get usual(): number {
    return this.#steps
  }

  observe(sample: StepSample): void {
    const { steps = 0 } = sample
    if (steps <= 0) return
    this.observeCount(steps)
    this.observeTime(sample)
  }

  /** Steps of a text, of which the usual number is learned. */
  observeCount(steps: number): void {
    this.#steps = this.#steps > 0 ? this.#steps + weight * (steps - this.#steps) : steps
  }

  /** Time of some steps, however many a text has. */
  observeTime({ bucket, steps = 0, stepsMs }: StepSample): void {
    if (steps <= 0 || stepsMs === undefined) return
    const index = this.#buckets.indexOf(bucket)
    const before = this.#msPerStep[index]
    const ms = stepsMs / steps
    this.#msPerStep[index] =
      before === undefined || before <= 0
        ? ms
        : before + weight * (Math.min(Math.max(ms, before / outlierFactor), before * outlierFactor) - before)
  }

  /** Expected time of these steps at a batch size, ms; that of the nearest one that was seen. */
  predict(bucket: number, steps = this.#steps): number {
    const seen = this.#buckets.flatMap((size, index) => {
      const ms = this.#msPerStep[index]
      return ms === undefined ? [] : [{ ms, distance: Math.abs(Math.log(size / bucket)) }]
    })
    if (seen.length === 0) return 0
    return steps * seen.reduce((nearest, each) => (each.distance < nearest.distance ? each : nearest)).ms
  }

  /** Samples of a batch size, as far as they are known. */
  sampleOf(bucket: number): Omit<StepSample, 'bucket'> {
    return this.#steps > 0 ? { steps: this.#steps, stepsMs: this.predict(bucket) } : {}
  }
}

const mean = (values: readonly number[]): number | undefined =>
  values.length === 0 ? undefined : values.reduce((sum, value) => sum + value, 0) / values.length
