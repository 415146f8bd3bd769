import { createHash } from 'node:crypto'
import { createReadStream, existsSync } from 'node:fs'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import type { CaptionText } from '../../edge/contract/caption.ts'
import { captionIds } from '../engine/batch.ts'
import { DevicePool } from '../engine/device-pool.ts'
import type { DeviceTarget } from '../engine/device-target.ts'
import { calibratedOn, graphOf, type Precision } from '../engine/precision.ts'
import type { CaptionModel } from '../models/model.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { taskRow } from '../pipeline/task-row.ts'
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
  /** What the model is asked of each picture; absent: nothing. */
  readonly request?: CaptionText | undefined
  /** Whether its captions are tags. */
  readonly tags?: boolean
  /** Captions a batch; words are not drawn by lot. */
  run(batch: PictureBatch, schedule: Schedule): Promise<{ captions: string[]; inferenceMs: number }>
  /** Unpruned captions in float32, where `run` computes in int8: what that costs counts too. */
  reference?(batch: PictureBatch): Promise<string[]>
  close(): Promise<void>
}

export interface CalibratorOptions {
  model: CaptionModel
  device: DeviceTarget
  precision: Precision
  /** Images in a full batch. */
  batch: number
  intraOpThreads?: number
  /** What the model is asked; default: nothing. */
  request?: CaptionText | undefined
}

/** Opens a model on a device. @throws ModelFolderError for one without a place for Turbo; DeviceOpenError */
export async function startCalibrator(options: CalibratorOptions): Promise<Calibrator> {
  const { model, device: target, precision, batch, intraOpThreads, request } = options
  if (model.unpruned)
    throw new ModelFolderError(
      `${model.id} has no levels to calibrate: Turbo has no place in it (${model.unpruned}). It is served unpruned.`,
    )
  const modelDigest = await digestOf(model)
  const start = (precision: Precision) =>
    DevicePool.start({
      model,
      devices: [target],
      intraOpThreads,
      buckets: [batch],
      graph: graphOf(precision),
    })
  const pools = [await start(precision)]
  const captionOn = async (pool: DevicePool, { pictures }: PictureBatch, schedule: Schedule) => {
    const rows = await Promise.all(
      pictures.map((picture) => taskRow(model, { request, settings: { temperature: 0 } }, [picture])),
    )
    const { rows: results, inferenceMs } = await pool.devices[0]!.run({ rows, schedule })
    const captions = results.map(
      (result, index) =>
        (result.scores && model.describe?.(result.scores).caption) ??
        model.decode(captionIds(rows[index]!.prompt, result)),
    )
    return { captions, inferenceMs }
  }
  return {
    model,
    modelDigest,
    device: calibratedOn(target, precision),
    batch,
    request,
    tags: model.describe !== undefined,
    run: (pictures, schedule) => captionOn(pools[0]!, pictures, schedule),
    ...(precision === 'int8' && {
      async reference(pictures) {
        const pool = pools[1] ?? (await start('float32'))
        pools[1] = pool
        return (await captionOn(pool, pictures, model.levels[0]!)).captions
      },
    }),
    async close() {
      for (const pool of pools) await pool.close()
    },
  }
}

async function digestOf({ folder, weightFiles }: CaptionModel): Promise<string> {
  const hash = createHash('sha256')
  for (const name of ['config.json', ...weightFiles]) {
    const path = join(folder, name)
    // Taggers have no configuration of their own.
    if (existsSync(path)) await pipeline(createReadStream(path), hash, { end: false })
  }
  return hash.digest('hex')
}
