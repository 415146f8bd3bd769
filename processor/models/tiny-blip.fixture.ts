import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import * as ort from 'onnxruntime-node'
import { readSafetensorsHeader, type SafetensorsType } from '../onnx/safetensors.ts'
import { openSession } from '../onnx/session.ts'
import { perLayer, type SemanticSettings, semanticWeights } from '../turbo/schedule.ts'
import type { BlipModel } from './blip.ts'
import type { GraphOptions } from './model.ts'

/** A random-weight BLIP of 65 image tokens, with the answers of Hugging Face; see make-tiny-blip.py beside it. */
export const tinyBlip = fileURLToPath(new URL('../../test/fixtures/tiny-blip', import.meta.url))

export interface TensorContent {
  type: SafetensorsType
  shape: number[]
  bytes: Uint8Array
}

/** Every tensor of a safetensors file, data included. */
export async function readTensors(file: string): Promise<Record<string, TensorContent>> {
  const bytes = await readFile(file)
  const header = await readSafetensorsHeader(file)
  return Object.fromEntries(
    [...header].map(([name, { type, shape, offset, length }]) => [
      name,
      { type, shape, bytes: new Uint8Array(bytes.subarray(offset, offset + length)) },
    ]),
  )
}

interface ExpectedSetting extends SemanticSettings {
  name: string
  r: number | number[]
  threshold?: number
  mode?: 'attention'
}

export interface Expected {
  pixels: Uint8Array
  /** Unpruned image tokens, `[images, N, D]` flattened. */
  hidden: Float32Array
  ids: number[][]
  /** As the processor makes them, `[CLS]` and `[SEP]` included. */
  prompt: number[][]
  promptedIds: number[][]
  settings: (ExpectedSetting & {
    tokens: Float32Array
    sizes: number[][]
    source: number[][]
    ids: number[][]
  })[]
}

/** Expected outputs of Hugging Face and the PyTorch Turbo. */
export async function readExpected(): Promise<Expected> {
  const tensors = await readTensors(join(tinyBlip, 'expected.safetensors'))
  const { settings } = JSON.parse(await readFile(join(tinyBlip, 'expected.json'), 'utf8')) as {
    settings: ExpectedSetting[]
  }
  const floats = (name: string) => new Float32Array(tensors[name]!.bytes.buffer)
  const rows = (name: string) => {
    const { type, shape, bytes } = tensors[name]!
    const numbers = type === 'I64' ? new BigInt64Array(bytes.buffer) : new Float32Array(bytes.buffer)
    return toRows(numbers, shape[1]!)
  }
  return {
    pixels: tensors.pixels!.bytes,
    hidden: floats('last_hidden_state'),
    ids: rows('ids'),
    prompt: rows('prompt'),
    promptedIds: rows('prompted_ids'),
    settings: settings.map((setting, i) => ({
      ...setting,
      tokens: floats(`turbo.${i}.tokens`),
      sizes: rows(`turbo.${i}.sizes`),
      source: rows(`turbo.${i}.source`),
      ids: rows(`turbo.${i}.ids`),
    })),
  }
}

export interface RunInputs extends SemanticSettings {
  pixels: Uint8Array
  /** Ids of every row, the start token first; default: the start token alone. */
  prompt?: number[]
  /** Maximum ids behind the prompt, of each row; default: more than there can be. */
  limits?: number[]
  /** Default 0. */
  r?: number | number[]
}

/** Outputs of a traced graph. */
export interface RunOutputs {
  tokens: Float32Array
  sizes: number[][]
  source: number[][]
  ids: number[][]
}

/** Opens a traced graph and returns a function that runs it on pictures. */
export async function openTraced(model: BlipModel, options: GraphOptions = {}) {
  const graph = model.buildGraph({ ...options, trace: true })
  const session = await openSession(graph, model.folder, { intraOpNumThreads: 1 })
  return async ({
    pixels,
    prompt = [model.startId],
    limits,
    r = 0,
    ...semantic
  }: RunInputs): Promise<RunOutputs> => {
    const { height, width } = model.picture
    const batch = pixels.length / (height * width * 3)
    const schedule = perLayer(r, model.encoder.layers)
    const prompts = Array.from({ length: batch }, () => prompt).flat()
    const out = await session.run({
      pixels: new ort.Tensor('uint8', pixels, [batch, height, width, 3]),
      prompt: new ort.Tensor('int64', BigInt64Array.from(prompts, BigInt), [batch, prompt.length]),
      limit: new ort.Tensor(
        'int64',
        BigInt64Array.from(limits ?? Array.from({ length: batch }, () => 10_000), BigInt),
        [batch, 1],
      ),
      r: new ort.Tensor('int64', BigInt64Array.from(schedule, BigInt), [model.encoder.layers]),
      weight: new ort.Tensor('float32', Float32Array.from(semanticWeights(schedule, semantic)), [
        model.encoder.layers,
      ]),
    })
    return {
      tokens: out.tokens!.data as Float32Array,
      sizes: tensorRows(out.sizes!),
      source: tensorRows(out.source!),
      ids: tensorRows(out.ids!),
    }
  }
}

/**
 * A copy of the tiny model in a temporary folder, `change` applied to it, for as long as `use` runs.
 * @returns what `use` returns
 */
export async function withCopy<T>(
  change: (folder: string) => Promise<unknown>,
  use: (folder: string) => Promise<T>,
): Promise<T> {
  const parent = await mkdtemp(join(tmpdir(), 'tiny-blip-'))
  const folder = join(parent, 'model')
  try {
    await cp(tinyBlip, folder, { recursive: true })
    await change(folder)
    return await use(folder)
  } finally {
    await rm(parent, { recursive: true })
  }
}

/** Rewrites a JSON file of a model folder. */
export async function editJson(
  file: string,
  edit: (json: Record<string, unknown>) => unknown,
): Promise<void> {
  const json = JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>
  await writeFile(file, JSON.stringify(edit(json)))
}

/** Norm of the difference over the norm of what was expected. */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  const norm = (values: Float32Array) => Math.hypot(...values)
  if (actual.length !== expected.length) return Number.POSITIVE_INFINITY
  return norm(actual.map((value, i) => value - expected[i]!)) / norm(expected)
}

const tensorRows = (tensor: ort.Tensor) =>
  toRows(tensor.data as Float32Array | BigInt64Array, tensor.dims[1]!)

function toRows(values: ArrayLike<number | bigint>, columns: number): number[][] {
  return Array.from({ length: values.length / columns }, (_, row) =>
    Array.from({ length: columns }, (_, column) => Number(values[row * columns + column])),
  )
}
