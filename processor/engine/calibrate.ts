import type { CaptionModel } from '../models/model.ts'
import type { CostSample } from '../scheduling/cost-model.ts'
import type { RunRow } from './batch.ts'
import type { Device } from './device.ts'

export interface CalibrateOptions {
  model: Pick<CaptionModel, 'levels'>
  /** Batch sizes, ascending. */
  buckets: number[]
  /** Row to run, with a caption of usual length. */
  row: RunRow
  /** No further run begins after this long, ms. At least one is measured. */
  budgetMs: number
  /** Runs before the one that counts, for each batch size and level; default 0. */
  warmUps?: number
}

/**
 * Measures runs of one image on a device to seed a cost model: the most informative first, as many as the budget allows.
 * The very first run, which sets up memory, is not counted.
 */
export async function calibrate(
  device: Pick<Device, 'run'>,
  { model, buckets, row, budgetMs, warmUps = 0 }: CalibrateOptions,
): Promise<CostSample[]> {
  const measure = async (bucket: number, level: number): Promise<CostSample> => {
    const rows = new Array<RunRow>(bucket).fill(row)
    const schedule = model.levels[level]!
    const run = () => device.run({ rows, schedule })
    for (let warmUp = 0; warmUp < warmUps; warmUp++) await run()
    const { inferenceMs, steps, stepsMs } = await run()
    return { bucket, level, ms: inferenceMs, ...(steps !== undefined && { steps, stepsMs }) }
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

/** Corners first: the smallest and the largest batch, unpruned and hardest; then everything between. Each once. */
function cells(buckets: number[], levels: number): { bucket: number; level: number }[] {
  const corners = [buckets[0]!, buckets.at(-1)!].flatMap((bucket) =>
    [0, levels - 1].map((level) => ({ bucket, level })),
  )
  const all = buckets.flatMap((bucket) => Array.from({ length: levels }, (_, level) => ({ bucket, level })))
  const byName = new Map([...corners, ...all].map((cell) => [`${cell.bucket}/${cell.level}`, cell]))
  return [...byName.values()]
}
