import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { captionIds, plainRow } from '../engine/batch.ts'
import { DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import type { Precision } from '../engine/precision.ts'
import type { CaptionModel } from '../models/model.ts'
import type { Schedule } from '../turbo/schedule.ts'
import type { PictureBatch } from './pictures.ts'

/** A model that is open for calibration, on one device. */
export interface Calibrator {
  readonly model: Pick<CaptionModel, 'id' | 'folder' | 'picture' | 'encoder'>
  /** SHA-256 of the model's weights and configuration, hexadecimal. */
  readonly modelDigest: string
  /** Device and precision, e.g. `cpu, float32`. */
  readonly device: string
  /** Images in a full batch. */
  readonly batch: number
  /** Captions a batch, without a prompt. */
  run(batch: PictureBatch, schedule: Schedule): Promise<{ captions: string[]; inferenceMs: number }>
  close(): Promise<void>
}

export interface CalibratorOptions {
  model: CaptionModel
  device: DeviceTarget
  precision: Precision
  /** Images in a full batch. */
  batch: number
  intraOpThreads?: number
}

/** Opens a model on a device. @throws ModelFolderError, DeviceOpenError */
export async function startCalibrator(options: CalibratorOptions): Promise<Calibrator> {
  const { model, device: target, precision, batch, intraOpThreads } = options
  const modelDigest = await digestOf(model)
  const pool = await DevicePool.start({
    model,
    devices: [target],
    intraOpThreads,
    buckets: [batch],
    graph: { float16: precision === 'float16' },
  })
  const device = pool.devices[0]!
  return {
    model,
    modelDigest,
    device: `${target.name}, ${precision}`,
    batch,
    async run({ pictures }, schedule) {
      const rows = pictures.map((picture) => plainRow(model, picture))
      const { rows: results, inferenceMs } = await device.run({ rows, schedule })
      const captions = results.map((result, index) => model.decode(captionIds(rows[index]!.prompt, result)))
      return { captions, inferenceMs }
    },
    close: () => pool.close(),
  }
}

async function digestOf({ folder, weightFiles }: CaptionModel): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['config.json', ...weightFiles])
    await pipeline(createReadStream(join(folder, name)), hash, { end: false })
  return hash.digest('hex')
}
