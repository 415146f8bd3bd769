import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { openBlip } from './blip.ts'
import type { DtypeOptions } from './exported/dtypes.ts'
import type { FamilyOptions } from './exported/open-family.ts'
import type { CaptionModel } from './model.ts'
import { readModelJson, requireModelJson } from './model-file.ts'

/** How a model is opened that leaves a choice. */
export interface OpenOptions extends Omit<DtypeOptions, 'stated'>, FamilyOptions {}

/** Families whose graphs are built from weights, by the `model_type` of their config.json. */
const families: Record<string, (folder: string) => Promise<CaptionModel>> = { blip: openBlip }

const configSchema = z.object({ model_type: z.string() })

/**
 * Opens a model folder in the Hugging Face layout.
 * @throws ModelFolderError when the folder is incomplete, malformed, or of an unsupported family
 */
export async function openModel(folder: string, options: OpenOptions = {}): Promise<CaptionModel> {
  const model = await ofFolder(folder, () => open(folder, options))
  const test = model.selfTest
  return test ? { ...model, selfTest: (given) => ofFolder(folder, () => test(given)) } : model
}

/** What libraries say of files that nobody foresaw names no folder, and may have many lines. */
async function ofFolder<T>(folder: string, run: () => Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (cause) {
    if (cause instanceof ModelFolderError && cause.message.includes(folder)) throw cause
    const [line = ''] = String((cause as Error | undefined)?.message ?? cause).split('\n')
    throw new ModelFolderError(`${folder} cannot be used: ${line.slice(0, mostReason)}`, { cause })
  }
}

/** Characters of what a library says. */
const mostReason = 300

async function open(folder: string, options: OpenOptions): Promise<CaptionModel> {
  const isOther = options.dtype !== undefined && options.dtype !== 'fp32'
  const known = (await readModelJson(folder, 'config.json', configSchema.partial()))?.model_type ?? ''
  if (Object.hasOwn(families, known)) {
    if (!isOther) return families[known]!(folder)
    throw new ModelFolderError(
      `${folder} has no files of the type ${options.dtype}: TURBINE_PRECISION says how it computes.`,
    )
  }
  // A service of the models above needs none of this.
  const { exportedFamilies, isTagger } = await import('./exported/open-family.ts')
  if (await isTagger(folder)) {
    if (isOther) throw new ModelFolderError(`${folder} has its model as fp32 only, not as ${options.dtype}.`)
    const { openTagger } = await import('./exported/open-tagger.ts')
    return openTagger(folder)
  }
  const { model_type: type } = await requireModelJson(folder, 'config.json', configSchema)
  if (!exportedFamilies.has(type))
    throw new ModelFolderError(
      `${join(folder, 'config.json')}: model_type is "${type}"; supported: ${[...Object.keys(families), ...exportedFamilies.keys()].join(', ')}.`,
    )
  const { openExported } = await import('./exported/open-exported.ts')
  return openExported(folder, options)
}
