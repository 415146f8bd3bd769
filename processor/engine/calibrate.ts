import type { CaptionModel } from '../models/model.ts'
import type { CostSample } from '../scheduling/cost-model.ts'
import type { Device } from './device.ts'
import { PixelBuffers } from './pixel-buffers.ts'

export interface CalibrateOptions {
  model: CaptionModel
  /** Batch sizes, ascending. */
  buckets: number[]
  /** No further run begins after this long, ms. At least one is measured. */
  budgetMs: number
}

/**
 * Measures runs of grey images on a device, the most telling ones first, as many as the budget allows: what a cost
 * model starts from. The very first run, which sets up memory, is not counted.
 */
export async function calibrate(
  device: Pick<Device, 'run'>,
  { model, buckets, budgetMs }: CalibrateOptions,
): Promise<CostSample[]> {
  const { pixels } = new PixelBuffers(model.image, buckets.at(-1)!).take()
  pixels.fill(128)
  const measure = async (bucket: number, level: number): Promise<CostSample> => {
    const prompt = Array.from({ length: bucket }, () => [model.startId])
    const schedule = model.levels[level]!
    const { inferenceMs } = await device.run({ pixels, count: bucket, prompt, schedule })
    return { bucket, level, ms: inferenceMs }
  }
  const start = performance.now()
  await measure(buckets[0]!, 0)
  const samples: CostSample[] = []
  for (const { bucket, level } of cells(buckets, model.levels.length)) {
    if (samples.length > 0 && performance.now() - start > budgetMs) break
    samples.push(await measure(bucket, level))
  }
  return samples
}

/** Corners first: the smallest and the largest batch, unpruned and hardest; then everything between. */
function cells(buckets: number[], levels: number): { bucket: number; level: number }[] {
  const corners = [
    { bucket: buckets[0]!, level: 0 },
    { bucket: buckets[0]!, level: levels - 1 },
    { bucket: buckets.at(-1)!, level: 0 },
    { bucket: buckets.at(-1)!, level: levels - 1 },
  ]
  const all = buckets.flatMap((bucket) => Array.from({ length: levels }, (_, level) => ({ bucket, level })))
  const isCorner = (cell: { bucket: number; level: number }) =>
    corners.some(({ bucket, level }) => bucket === cell.bucket && level === cell.level)
  return [...corners, ...all.filter((cell) => !isCorner(cell))]
}
