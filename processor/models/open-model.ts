import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { openBlip } from './blip.ts'
import type { DtypeOptions } from './exported/dtypes.ts'
import { openExported } from './exported/open-exported.ts'
import { exportedFamilies, type FamilyOptions, isTagger } from './exported/open-family.ts'
import { openTagger } from './exported/open-tagger.ts'
import type { CaptionModel } from './model.ts'
import { requireModelJson } from './model-file.ts'

/** How a model is opened that leaves a choice. */
export interface OpenOptions extends Omit<DtypeOptions, 'stated'>, FamilyOptions {}

/** Model families by the `model_type` of their config.json. */
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
  if (await isTagger(folder)) {
    if (isOther) throw new ModelFolderError(`${folder} has its model as fp32 only, not as ${options.dtype}.`)
    return openTagger(folder)
  }
  const { model_type: type } = await requireModelJson(folder, 'config.json', configSchema)
  if (Object.hasOwn(families, type)) {
    if (!isOther) return families[type]!(folder)
    throw new ModelFolderError(
      `${folder} has no files of the type ${options.dtype}: TURBINE_PRECISION says how it computes.`,
    )
  }
  if (exportedFamilies.has(type)) return openExported(folder, options)
  throw new ModelFolderError(
    `${join(folder, 'config.json')}: model_type is "${type}"; supported: ${[...Object.keys(families), ...exportedFamilies.keys()].join(', ')}.`,
  )
}
