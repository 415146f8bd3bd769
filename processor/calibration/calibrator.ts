import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import type { Precision } from '../engine/precision.ts'
import { loadTokenizer } from '../engine/tokenizer.ts'
import type { CaptionModel } from '../models/model.ts'
import type { Schedule } from '../turbo/schedule.ts'
import type { PictureBatch } from './pictures.ts'

/** A model that is open for calibration, on one device. */
export interface Calibrator {
  readonly model: Pick<CaptionModel, 'id' | 'folder' | 'image' | 'encoder'>
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
  const [tokenizer, modelDigest] = await Promise.all([loadTokenizer(model.folder), digestOf(model.folder)])
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
    async run({ pixels, count }, schedule) {
      const prompt = Array.from({ length: count }, () => [model.startId])
      const { ids, inferenceMs } = await device.run({ pixels, count, prompt, schedule })
      return { captions: ids.map(tokenizer.decode), inferenceMs }
    },
    close: () => pool.close(),
  }
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['config.json', 'model.safetensors'])
    await pipeline(createReadStream(join(folder, name)), hash, { end: false })
  return hash.digest('hex')
}
