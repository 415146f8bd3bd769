import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { ModelFolderError } from '../onnx/weights.ts'
import { openBlip } from './blip.ts'
import type { CaptionModel } from './model.ts'

/** Model families by the `model_type` of their config.json. */
const families: Record<string, (folder: string) => Promise<CaptionModel>> = { blip: openBlip }

/**
 * Opens a model folder in the Hugging Face layout.
 * @throws ModelFolderError when the folder is incomplete, malformed, or of a family that is not served.
 */
export async function openModel(folder: string): Promise<CaptionModel> {
  const type = await modelType(folder)
  const open = families[type]
  if (open) return open(folder)
  throw new ModelFolderError(
    `${join(folder, 'config.json')}: model_type is "${type}"; ${Object.keys(families).join(', ')} can be served.`,
  )
}

async function modelType(folder: string): Promise<string> {
  const file = join(folder, 'config.json')
  try {
    return String(JSON.parse(await readFile(file, 'utf8')).model_type)
  } catch (cause) {
    throw new ModelFolderError(
      `${file} cannot be read. A model folder needs config.json, preprocessor_config.json, tokenizer.json or vocab.txt, and model.safetensors.`,
      { cause },
    )
  }
}
