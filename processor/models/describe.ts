import type { Stats } from 'node:fs'
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Dtype, dtypeSuffixes, dtypes } from './exported/dtypes.ts'
import { type CaptionModel, pictureTokens } from './model.ts'
import { type OpenOptions, openModel } from './open-model.ts'
import { shapeOf } from './pictures.ts'

/** File of a model's weights. */
export interface DescribedSession {
  /** E.g. `vision_encoder`; of a model without sessions of its own the file's. */
  name: string
  /** Path in the folder. */
  file: string
  dtype?: Dtype
  /** Bytes, with those of its weights beside it. */
  bytes: number
}

/** Where Turbo sits in a model's encoder: in these blocks, or in none for a reason. */
export type TurboPlace = { blocks: number[] } | { refused: string }

/** Tokens that a picture of a size takes. */
export interface DescribedPicture {
  /** Pixels; absent where all sizes are alike. */
  size?: [width: number, height: number]
  /** Tokens that enter the vision encoder, and by the level those that leave it. */
  in: number
  out: number[]
  /** Tokens of the prompt. */
  prompt?: number
}

/** What a model folder holds. */
export interface ModelDescription {
  folder: string
  sessions: DescribedSession[]
  /** The model; absent with `refused`. */
  model?: Pick<
    CaptionModel,
    | 'id'
    | 'folder'
    | 'family'
    | 'encoder'
    | 'levels'
    | 'follows'
    | 'tasks'
    | 'maxPictures'
    | 'picture'
    | 'textTasks'
    | 'honours'
    | 'generation'
    | 'maxTokens'
    | 'unhonoured'
    | 'dtype'
    | 'batchInvariant'
    | 'runner'
  >
  /** What it computes in on a CPU, with the reason. */
  precision?: string
  turbo?: TurboPlace
  /** Tokens of pictures. */
  pictures?: DescribedPicture[]
  /** Why it cannot be served. */
  refused?: string
}

/**
 * Describes a model folder, also one that cannot be served.
 * @throws file system errors when the folder cannot be read
 */
export async function describeModel(folder: string, options: OpenOptions = {}): Promise<ModelDescription> {
  const sessions = await sessionsIn(folder)
  try {
    const model = await openModel(folder, options)
    return { folder, sessions, model, turbo: turboOf(model), pictures: picturesOf(model) }
  } catch (error) {
    return { folder, sessions, refused: error instanceof Error ? error.message : String(error) }
  }
}

/** A model says of each level how many tokens each block merges. */
function turboOf({ encoder, unpruned, levels }: CaptionModel): TurboPlace {
  if (unpruned !== undefined) return { refused: unpruned }
  if (levels.length === 1) return { refused: 'it has no levels beside the unpruned one' }
  return { blocks: Array.from({ length: encoder.layers }, (_, block) => block) }
}

/** Of models that see pictures in their sizes, a small and a large one. */
const sizes: [width: number, height: number][] = [
  [640, 480],
  [1920, 1080],
]

function picturesOf(model: CaptionModel): DescribedPicture[] {
  const { picture, levels, imageRows } = model
  const isOneSize = picture.kind !== 'tiles' && picture.kind !== 'patches'
  return (isOneSize ? sizes.slice(0, 1) : sizes).map((size) => {
    const shape = shapeOf(picture, ...size)
    const tokens = levels.map((_, level) => pictureTokens(model, [shape], level))
    return {
      ...(!isOneSize && { size }),
      in: tokens[0]!.tokensIn,
      out: tokens.map(({ tokensOut }) => tokensOut),
      ...(imageRows && { prompt: imageRows(shape) }),
    }
  })
}

const sessionFile = /^(?:onnx\/)?([\w.-]+)\.(onnx|safetensors)$/

async function sessionsIn(folder: string): Promise<DescribedSession[]> {
  const names = (await readdir(folder, { recursive: true })).map((name) => name.replaceAll('\\', '/'))
  const sizeOf = async (name: string) =>
    (await stat(join(folder, name)).catch((): Stats | undefined => undefined))?.size ?? 0
  const files = names.filter((name) => sessionFile.test(name)).toSorted()
  return Promise.all(
    files.map(async (file) => {
      const data = names.filter((name) => name.startsWith(`${file}_data`))
      const sizes = await Promise.all([file, ...data].map(sizeOf))
      return { ...named(file), file, bytes: sizes.reduce((sum, size) => sum + size, 0) }
    }),
  )
}

/** Suffixes, the longest first: `_q4f16` ends no name that `_q4` ends, but `` ends all. */
const suffixes = dtypes.toSorted((a, b) => dtypeSuffixes[b].length - dtypeSuffixes[a].length)

function named(file: string): Pick<DescribedSession, 'name' | 'dtype'> {
  const name = sessionFile.exec(file)![1]!
  if (!file.startsWith('onnx/')) return { name }
  const dtype = suffixes.find((each) => name.endsWith(dtypeSuffixes[each]))!
  return { name: name.slice(0, name.length - dtypeSuffixes[dtype].length), dtype }
}
