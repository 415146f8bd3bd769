import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import { ModelFolderError } from '../../onnx/weights.ts'

/** Ends of file names by the type of the weights, in the layout of transformers.js. */
export const dtypeSuffixes = {
  fp32: '',
  fp16: '_fp16',
  q8: '_quantized',
  int8: '_int8',
  uint8: '_uint8',
  q4: '_q4',
  q4f16: '_q4f16',
  bnb4: '_bnb4',
} as const
export type Dtype = keyof typeof dtypeSuffixes
export const dtypes = Object.keys(dtypeSuffixes) as Dtype[]

/** A file of a session. */
export interface SessionFile {
  /** Path, `<folder>/onnx/<name><suffix>.onnx`. */
  file: string
  dtype: Dtype
}

/**
 * Finds the file of a session in a folder, in the first of the types that is there.
 *
 * @param name e.g. `vision_encoder`
 * @param wanted types in the order of preference; default: all, from the most exact
 * @throws ModelFolderError that names what is there
 * @example await sessionFile('models/smolvlm', 'vision_encoder', ['fp16', 'fp32'])
 */
export async function sessionFile(
  folder: string,
  name: string,
  wanted: readonly Dtype[] = dtypes,
): Promise<SessionFile> {
  const there: string[] = await readdir(join(folder, 'onnx')).catch(() => [])
  const nameOf = (dtype: Dtype) => `${name}${dtypeSuffixes[dtype]}.onnx`
  const dtype = wanted.find((dtype) => there.includes(nameOf(dtype)))
  if (dtype) return { file: join(folder, 'onnx', nameOf(dtype)), dtype }
  const others = dtypes.filter((dtype) => there.includes(nameOf(dtype)))
  throw new ModelFolderError(
    others.length > 0
      ? `${folder} has ${name} as ${others.join(', ')}, and not as ${wanted.join(' or ')}. Pull the model with --dtype ${wanted[0]}.`
      : `${join(folder, 'onnx', nameOf(wanted[0] ?? 'fp32'))} is missing. Pull the model again.`,
  )
}

/** The files of several sessions. @throws ModelFolderError */
export async function sessionFiles<Name extends string>(
  folder: string,
  names: readonly Name[],
  wanted?: Partial<Record<Name, readonly Dtype[]>>,
): Promise<Record<Name, SessionFile>> {
  const files = await Promise.all(
    names.map(async (name) => [name, await sessionFile(folder, name, wanted?.[name])] as const),
  )
  return Object.fromEntries(files) as Record<Name, SessionFile>
}
