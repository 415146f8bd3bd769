import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
import { readModelJson } from '../model-file.ts'
import { chooseDtypes, type Dtype, type DtypeOptions, LayoutError, sessionPath } from './dtypes.ts'

/** A file of a session. */
export interface SessionFile {
  /** Path, `<folder>/onnx/<name><suffix>.onnx`. */
  file: string
  dtype: Dtype
}

const configSchema = z.looseObject({
  'transformers.js_config': z.looseObject({ dtype: z.unknown() }).optional().catch(undefined),
})

/**
 * Finds the files of sessions in a folder, of those that are there.
 * @param names e.g. `vision_encoder`
 * @throws ModelFolderError that names what is there
 * @example await sessionFiles('models/smolvlm', ['vision_encoder'], { device: 'gpu' })
 */
export async function sessionFiles<Name extends string>(
  folder: string,
  names: readonly Name[],
  options: Omit<DtypeOptions, 'stated'> = {},
): Promise<Record<Name, SessionFile>> {
  const there = await readdir(join(folder, 'onnx')).catch(() => [])
  const config = await readModelJson(folder, 'config.json', configSchema)
  const files = there.map((name) => `onnx/${name}`)
  try {
    const stated = config?.['transformers.js_config']?.dtype
    const chosen = chooseDtypes(names, files, { ...options, stated })
    return Object.fromEntries(
      names.map((name) => {
        const dtype = chosen[name]!
        return [name, { file: join(folder, sessionPath(name, dtype)), dtype }]
      }),
    ) as Record<Name, SessionFile>
  } catch (cause) {
    if (!(cause instanceof LayoutError)) throw cause
    const wanted = options.dtype === undefined ? '' : ` with --dtype ${options.dtype}`
    throw new ModelFolderError(`${folder} ${cause.message} Pull the model again${wanted}.`, { cause })
  }
}
