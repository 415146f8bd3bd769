import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { openBlip } from './blip.ts'
import type { CaptionModel } from './model.ts'
import { requireModelJson } from './model-file.ts'

/** Model families by the `model_type` of their config.json. */
const families: Record<string, (folder: string) => Promise<CaptionModel>> = { blip: openBlip }

const configSchema = z.object({ model_type: z.string() })

/**
 * Opens a model folder in the Hugging Face layout.
 * @throws ModelFolderError when the folder is incomplete, malformed, or of an unsupported family
 */
export async function openModel(folder: string): Promise<CaptionModel> {
  const { model_type: type } = await requireModelJson(folder, 'config.json', configSchema)
  const open = families[type]
  if (open) return open(folder)
  throw new ModelFolderError(
    `${join(folder, 'config.json')}: model_type is "${type}"; supported: ${Object.keys(families).join(', ')}.`,
  )
}
