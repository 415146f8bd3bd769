import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
import { openFlorence2 } from '../florence-2.ts'
import { openLlava } from '../llava.ts'
import { requireModelJson } from '../model-file.ts'
import { limitPixels } from '../pictures.ts'
import { openQwen2Vl } from '../qwen2-vl.ts'
import { openSmolvlm } from '../smolvlm.ts'
import { openVitGpt2 } from '../vit-gpt2.ts'
import type { ExportedFamily } from './family.ts'

/** Families of exported folders by the `model_type` of their config.json. */
export const exportedFamilies: ReadonlyMap<string, (folder: string) => Promise<ExportedFamily>> = new Map([
  ['idefics3', openSmolvlm],
  ['smolvlm', openSmolvlm],
  ['llava', openLlava],
  ['qwen2_vl', openQwen2Vl],
  ['florence2', openFlorence2],
  ['vision-encoder-decoder', openVitGpt2],
])

const configSchema = z.looseObject({ model_type: z.string() })

/** Whether a folder is that of a tagger, which has no `model_type`. */
export async function isTagger(folder: string): Promise<boolean> {
  const files = ['selected_tags.csv', 'model.onnx'].map((name) => access(join(folder, name)))
  return (await Promise.allSettled(files)).every(({ status }) => status === 'fulfilled')
}

export interface FamilyOptions {
  /** Pixels that a model sees of an image at most, where that is a choice. Default: what the folder says. */
  picturePixels?: number
}

/**
 * Reads what a folder says of its model. Code that a folder names (`auto_map`) is never run.
 * @throws ModelFolderError when it is incomplete, malformed, or of another family
 */
export async function openFamily(
  folder: string,
  { picturePixels }: FamilyOptions = {},
): Promise<ExportedFamily> {
  const { model_type: type } = await requireModelJson(folder, 'config.json', configSchema)
  const open = exportedFamilies.get(type)
  if (open) {
    const family = await open(folder)
    return { ...family, picture: limitPixels(family.picture, picturePixels) }
  }
  throw new ModelFolderError(
    `${join(folder, 'config.json')}: model_type is ${JSON.stringify(type.slice(0, 100))}; supported: ${[...exportedFamilies.keys()].join(', ')}.`,
  )
}
