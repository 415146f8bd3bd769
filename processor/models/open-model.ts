import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { openBlip } from './blip.ts'
import { openExported } from './exported/open-exported.ts'
import { exportedFamilies, isTagger } from './exported/open-family.ts'
import { openTagger } from './exported/open-tagger.ts'
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
  if (await isTagger(folder)) return openTagger(folder)
  const { model_type: type } = await requireModelJson(folder, 'config.json', configSchema)
  if (Object.hasOwn(families, type)) return families[type]!(folder)
  if (exportedFamilies.has(type)) return openExported(folder)
  throw new ModelFolderError(
    `${join(folder, 'config.json')}: model_type is "${type}"; supported: ${[...Object.keys(families), ...exportedFamilies.keys()].join(', ')}.`,
  )
}
