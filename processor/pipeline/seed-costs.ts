import { type CalibrateOptions, calibrate } from '../engine/calibrate.ts'
import type { CostCache } from '../engine/cost-cache.ts'
import type { Device } from '../engine/device.ts'
import { CostModel, type CostModelOptions, type CostSample } from '../scheduling/cost-model.ts'

export interface SeedCostsOptions
  extends Pick<CalibrateOptions, 'model' | 'buckets' | 'pixels'>,
    Pick<CostModelOptions, 'levels' | 'decodersAtOnce'> {
  /** Whether the device is a GPU. */
  gpu?: boolean
  /** Run times measured at earlier starts. */
  cache?: CostCache
  /** Called when the run times could not be kept; the next start measures again. */
  onCacheError?(error: unknown): void
}

/** Calibration takes about this long at a first start, ms; a run that has begun is finished. */
const calibrationMs = 1500
/**
 * A GPU picks kernels and sets up memory in the first two runs of each shape: they take up to seconds, and do not tell
 * what the shape costs from then on. Costs there do not follow the batch size, so large batches have to be measured.
 */
const gpuWarmUps = 2
const gpuCalibrationMs = 15_000
/** The same where only a look is taken whether what an earlier start measured still holds. */
const checkMs = 200
/** Runs that are this many times slower or faster than an earlier start's make it worthless. */
const staleFactor = 1.5

/**
 * Seeds the cost model of a device with what an earlier start measured, if that still holds, or else with a short
 * calibration, which is kept for the next start.
 */
export async function seedCosts(device: Pick<Device, 'run'>, options: SeedCostsOptions): Promise<CostModel> {
  const { model, buckets, pixels, gpu = false, levels, decodersAtOnce, cache, onCacheError } = options
  const warmUps = gpu ? gpuWarmUps : 0
  const measure = (budgetMs: number) => calibrate(device, { model, buckets, pixels, budgetMs, warmUps })
  const seeded = (samples: CostSample[]) => new CostModel({ levels, buckets, samples, decodersAtOnce })
  const known = await cache?.read()
  if (known) {
    const costs = seeded(known)
    const check = await measure(checkMs)
    if (check.every((sample) => isNear(sample.ms, costs.predict(sample.bucket, sample.level)))) {
      for (const sample of check) costs.observe(sample)
      return costs
    }
  }
  const samples = await measure(gpu ? gpuCalibrationMs : calibrationMs)
  await cache?.write(samples).catch((error: unknown) => onCacheError?.(error))
  return seeded(samples)
}

const isNear = (ms: number, predicted: number) => ms < predicted * staleFactor && ms * staleFactor > predicted
