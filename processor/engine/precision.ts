import { readLevelTable } from '../models/levels.ts'
import type { CaptionModel } from '../models/model.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { plainRow } from './batch.ts'
import { DeviceUnavailableError } from './device-errors.ts'
import { type DeviceGraphOptions, DevicePool } from './device-pool.ts'
import type { DeviceTarget } from './device-target.ts'
import { readPicture } from './read-picture.ts'

/** Data type that a graph computes in; `int8`: its linear layers, and float32 elsewhere. */
export type Precision = 'float32' | 'float16' | 'int8'

export interface PrecisionOptions {
  model: CaptionModel
  device: DeviceTarget
  /** Encoded images on which both have to agree. */
  images: Uint8Array[]
}

export interface ChosenPrecision {
  precision: Precision
  /** One line. */
  reason: string
}

/** Graph options of a precision. */
export const graphOf = (precision: Precision): DeviceGraphOptions => ({
  float16: precision === 'float16',
  int8: precision === 'int8',
})

/** Device and precision, as a level table names what it was calibrated on. */
export const calibratedOn = ({ name }: Pick<DeviceTarget, 'name'>, precision: Precision): string =>
  `${name}, ${precision}`

/** What of a model decides what it computes in on a CPU. */
export type OnCpu = Pick<CaptionModel, 'id' | 'folder' | 'dtype' | 'levels'>

/**
 * Chooses int8 for a model that was calibrated in it, since what it costs in captions is known then.
 * @throws ModelFolderError
 */
export async function chooseOnCpu({ folder, levels }: OnCpu): Promise<ChosenPrecision> {
  const table = await readLevelTable(folder)
  const exact = levels[0]!.quality?.exact
  if (table?.calibration?.device !== calibratedOn({ name: 'cpu' }, 'int8') || exact === undefined)
    return { precision: 'float32', reason: 'float32, as CPUs compute' }
  const share = (100 * exact).toFixed(1)
  return { precision: 'int8', reason: `int8, as calibrated: ${share} % of captions are those of float32` }
}

/**
 * Chooses float16 on a GPU when it captions the given images with the ids of float32, unpruned and at the highest level.
 * @throws DeviceOpenError
 */
export const chooseOnGpu = async (options: PrecisionOptions): Promise<ChosenPrecision> =>
  (await agreeInFloat16(options))
    ? { precision: 'float16', reason: 'float16, with the captions of float32' }
    : { precision: 'float32', reason: 'float32, since float16 captions differ with this model' }

/**
 * The precision that is asked for, of a model and a device that can; undefined where its weights decide.
 * @throws DeviceUnavailableError, ModelFolderError that name the remedy
 */
export function askedPrecision(
  precision: Precision | 'auto',
  { dtype, id }: Pick<CaptionModel, 'dtype' | 'id'>,
  { name, provider }: Pick<DeviceTarget, 'name' | 'provider'>,
): ChosenPrecision | undefined {
  if (precision === 'auto') return undefined
  if (precision !== 'int8') return dtype ? undefined : { precision, reason: `${precision}, as configured` }
  if (provider !== 'cpu')
    throw new DeviceUnavailableError(
      name,
      'int8 is for CPUs',
      'Set TURBINE_PRECISION to auto, or TURBINE_DEVICE to cpu.',
    )
  const types = dtype?.split(', ') ?? ['fp32']
  if (types.includes('fp16'))
    throw new ModelFolderError(
      `TURBINE_PRECISION: ${id} has weights of type ${dtype}, and int8 is made of fp32. Pull it as fp32, or as it is exported in 8 bits: npx turbine models pull --dtype q8.`,
    )
  return types.every((type) => type === 'fp32') ? { precision, reason: 'int8, as configured' } : undefined
}

/** Compares the ids of float16 and float32 on this device. */
export async function agreeInFloat16({ model, device, images }: PrecisionOptions): Promise<boolean> {
  const levels = [model.levels[0]!, model.levels.at(-1)!]
  const idsIn = async (precision: Precision): Promise<string> => {
    const graph = graphOf(precision)
    const pool = await DevicePool.start({ model, devices: [device], buckets: [1], graph })
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
  return (await idsIn('float32')) === (await idsIn('float16'))
}
