import { createHash } from 'node:crypto'
import { stat } from 'node:fs/promises'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import type { CaptionModel } from '../models/model.ts'

export type IdentifiedModel = Pick<CaptionModel, 'id' | 'folder' | 'levels' | 'encoder' | 'weightFiles'>

/** Names what is known of a model: another one for other weights, levels, version of ONNX Runtime, or circumstances. */
export async function modelIdentity(model: IdentifiedModel, circumstances: object): Promise<string> {
  const weights = await Promise.all(model.weightFiles.map((file) => stat(join(model.folder, file))))
  const schedules = model.levels.map(({ r, weight }) => ({ r, weight }))
  const identity = {
    model: [model.id, model.encoder, schedules, ...weights.flatMap(({ size, mtimeMs }) => [size, mtimeMs])],
    runtime: createRequire(import.meta.url)('onnxruntime-node/package.json').version,
    circumstances,
  }
  return createHash('sha256').update(JSON.stringify(identity)).digest('hex').slice(0, 32)
}
