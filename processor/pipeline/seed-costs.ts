import { type CalibrateOptions, calibrate } from '../engine/calibrate.ts'
import type { CostCache } from '../engine/cost-cache.ts'
import type { Device } from '../engine/device.ts'
import { CostModel, type CostModelOptions, type CostSample } from '../scheduling/cost-model.ts'

export interface SeedCostsOptions
  extends Pick<CalibrateOptions, 'model' | 'buckets' | 'row'>,
    Pick<CostModelOptions, 'levels' | 'decodersAtOnce'> {
  /** Whether the device is a GPU. */
  gpu?: boolean
  /** Run times measured at earlier starts. */
  cache?: CostCache
  /** Called when the run times could not be stored; the next start measures again. */
  onCacheError?(error: unknown): void
}

/** Approximate time of calibration at a first start, ms; a started run is finished. */
const calibrationMs = 1500
/**
 * A GPU selects kernels and allocates memory in the first two runs of each shape: they take up to seconds and do not
 * predict later runs. Costs do not follow the batch size, so large batches have to be measured.
 */
const gpuWarmUps = 2
const gpuCalibrationMs = 15_000
/** Time to check whether earlier measurements still hold, ms. */
const checkMs = 200
/** Earlier measurements are discarded if runs are slower or faster by this factor. */
const staleFactor = 1.5

/**
 * Seeds the cost model of a device with earlier measurements, if they still hold, or else with a short calibration,
 * which is stored for the next start.
 */
export async function seedCosts(device: Pick<Device, 'run'>, options: SeedCostsOptions): Promise<CostModel> {
  const { model, buckets, row, gpu = false, levels, decodersAtOnce, cache, onCacheError } = options
  const warmUps = gpu ? gpuWarmUps : 0
  const measure = (budgetMs: number) => calibrate(device, { model, buckets, row, budgetMs, warmUps })
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
