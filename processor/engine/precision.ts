import type { CaptionModel } from '../models/model.ts'
import { plainRow } from './batch.ts'
import { DevicePool } from './device-pool.ts'
import type { DeviceTarget } from './device-target.ts'
import { readPicture } from './read-picture.ts'

/** Data type that a graph computes in. */
export type Precision = 'float32' | 'float16'

export interface PrecisionOptions {
  model: CaptionModel
  device: DeviceTarget
  /** Encoded images on which both have to agree. */
  images: Uint8Array[]
}

/**
 * Chooses float16 on a GPU when it captions the given images with the ids of float32, unpruned and at the highest level. A
 * CPU computes in float32.
 *
 * @returns the precision and one line that says why
 * @throws DeviceOpenError
 */
export async function choosePrecision(
  options: PrecisionOptions,
): Promise<{ precision: Precision; reason: string }> {
  if (options.device.provider === 'cpu') return { precision: 'float32', reason: 'float32, as CPUs compute' }
  return (await agreeInFloat16(options))
    ? { precision: 'float16', reason: 'float16, with the captions of float32' }
    : { precision: 'float32', reason: 'float32, since float16 captions differ with this model' }
}

/** Compares the ids of float16 and float32 on this device. */
export async function agreeInFloat16({ model, device, images }: PrecisionOptions): Promise<boolean> {
  const levels = [model.levels[0]!, model.levels.at(-1)!]
  const idsIn = async (float16: boolean): Promise<string> => {
    const pool = await DevicePool.start({ model, devices: [device], buckets: [1], graph: { float16 } })
    const ids: number[][] = []
    try {
      for (const image of images) {
        const rows = [await plainRow(model, await readPicture(image, model.picture))]
        for (const schedule of levels) {
          const result = await pool.devices[0]!.run({ rows, schedule })
          ids.push(...result.rows.map(({ ids }) => ids))
        }
      }
    } finally {
      await pool.close()
    }
    return JSON.stringify(ids)
  }
  return (await idsIn(false)) === (await idsIn(true))
}
