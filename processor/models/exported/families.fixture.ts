import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { InferenceSession, Tensor } from 'onnxruntime-node'
import { openSession } from '../../onnx/session.ts'
import type { Bans } from '../generation/bans.ts'
import { readGenerationDefaults } from '../generation.ts'
import { decoderGraph } from './decoder-graph.ts'
import { encoderGraph } from './encoder-graph.ts'
import { type GeneratorOptions, openGenerator } from './generator.ts'
import type { GenerateGraph } from './graph.ts'
import { type GenerateRow, int64 } from './rows.ts'
import { type Originals, openOriginal } from './step-by-step.ts'

/** A view of a picture, as reference.json has it. */
interface View {
  shape: { count: number; rows: number; cols: number }
  pixels: string
  pixelsShape: number[]
}

export interface ReferenceCase {
  name: string
  views: string[]
  options: {
    repetition_penalty?: number
    no_repeat_ngram_size?: number
    num_beams?: number
    early_stopping?: boolean
    forced_eos_token_id?: null
  }
  maxNewTokens: number
  inputIds: number[]
  positionIds?: number[][]
  ids: number[]
  ended: boolean
}

interface Reference {
  ids: { image?: number; start?: number; end: number[]; pad: number; forcedStart?: number }
  views: Record<string, View>
  cases: ReferenceCase[]
}

const models = fileURLToPath(new URL('../../../test/fixtures/models/', import.meta.url))
const readJson = (file: string) => JSON.parse(readFileSync(file, 'utf8'))

/** A tiny model with Hugging Face's answers. */
export interface Family {
  name: string
  folder: string
  reference: Reference
  /** A case as the generator takes it. */
  row(reference: ReferenceCase): Promise<GenerateRow>
}

export function openFamily(name: string): Family {
  const folder = join(models, name)
  const reference: Reference = readJson(join(folder, 'reference.json'))
  const features = new Map<string, Promise<Float32Array>>()
  const featuresOf = (view: string) => {
    if (!features.has(view)) features.set(view, encode(folder, reference.views[view]!))
    return features.get(view)!
  }
  return {
    name,
    folder,
    reference,
    async row({ views, inputIds, options, maxNewTokens, positionIds }) {
      const parts = await Promise.all(views.map(featuresOf))
      const { settings } = await readGenerationDefaults(folder)
      return {
        ids: inputIds,
        places: inputIds.flatMap((id, at) => (id === reference.ids.image ? [at] : [])),
        features: Float32Array.from(parts.flatMap((part) => Array.from(part))),
        ...(positionIds && { positions: positionIds }),
        settings: {
          ...settings,
          maxTokens: maxNewTokens,
          repetitionPenalty: options.repetition_penalty ?? settings.repetitionPenalty,
          noRepeatNgram: options.no_repeat_ngram_size ?? settings.noRepeatNgram,
          beams: options.num_beams ?? settings.beams ?? 1,
          earlyStopping: options.early_stopping ?? settings.earlyStopping ?? false,
        },
      }
    },
  }
}

/** Features of a view by the folder's own vision session. */
async function encode(folder: string, { pixels, pixelsShape, shape }: View): Promise<Float32Array> {
  const preprocessor = readJson(join(folder, 'preprocessor_config.json'))
  const bytes = gunzipSync(readFileSync(join(folder, pixels)))
  const [count, height, width] = pixelsShape as [number, number, number]
  const planes = new Float32Array(bytes.length)
  const normalised = (value: number, channel: number) =>
    (value / 255 - preprocessor.image_mean[channel]) / preprocessor.image_std[channel]
  const inPatches = pixelsShape.length === 2
  for (const [at, value] of bytes.entries()) {
    const area = height * width
    if (inPatches) {
      planes[at] = normalised(value, Math.floor((at % height) / (height / 3)))
      continue
    }
    const [image, place, channel] = [Math.floor(at / (area * 3)), Math.floor(at / 3) % area, at % 3]
    planes[(image * 3 + channel) * area + place] = normalised(value, channel)
  }
  const file = join(folder, 'onnx', 'vision_encoder.onnx')
  const session = await InferenceSession.create(file).catch(() =>
    InferenceSession.create(join(folder, 'onnx', 'encoder_model.onnx')),
  )
  const mask = () =>
    new Tensor('bool', new Uint8Array(count * height * width).fill(1), [1, count, height, width])
  const feeds: Record<string, Tensor> = {}
  for (const name of session.inputNames) {
    if (name === 'pixel_attention_mask') feeds[name] = mask()
    else if (name === 'grid_thw') feeds[name] = int64([1, shape.rows, shape.cols], [1, 3])
    else if (inPatches) feeds[name] = new Tensor('float32', twice(planes, height), [count, height * 2])
    else
      feeds[name] = new Tensor(
        'float32',
        planes,
        session.inputNames.includes('pixel_attention_mask')
          ? [1, count, 3, height, width]
          : [count, 3, height, width],
      )
  }
  const outputs = await session.run(feeds)
  const answer = outputs[session.outputNames[0]!]!.data as Float32Array
  await session.release()
  return answer.slice()
}

/** Each patch `[3, p, p]` with its copy in time: `[3, 2, p, p]`. */
function twice(patches: Float32Array, size: number): Float32Array {
  const plane = size / 3
  const doubled = new Float32Array(patches.length * 2)
  for (let at = 0; at < patches.length; at += plane) {
    doubled.set(patches.subarray(at, at + plane), 2 * at)
    doubled.set(patches.subarray(at, at + plane), 2 * at + plane)
  }
  return doubled
}

/** The generate graph of a family, of files with a suffix. */
export function generateGraph({ folder, reference, name }: Family, suffix = '', bans?: Bans): GenerateGraph {
  const onnx = join(folder, 'onnx')
  const { end, pad } = reference.ids
  const decoder = join(onnx, `decoder_model_merged${suffix}.onnx`)
  const shared = { folder: onnx, decoder, endIds: end, padId: pad, bans }
  const embed = join(onnx, `embed_tokens${suffix}.onnx`)
  if (name === 'vit-gpt2') return encoderGraph(shared)
  if (name === 'florence2')
    return encoderGraph({ ...shared, text: { embed, encoder: join(onnx, 'encoder_model.onnx') } })
  return decoderGraph({ ...shared, embed })
}

export async function openFamilyGenerator(
  family: Family,
  { suffix = '', ...options }: Partial<GeneratorOptions> & { suffix?: string } = {},
) {
  const { model, metadata } = generateGraph(family, suffix)
  const session = await openSession(model, join(family.folder, 'onnx'), { intraOpNumThreads: 1 })
  const generator = openGenerator({ session, metadata, startIds: startIds(family), ...options })
  return { generator, metadata, session, model }
}

export const startIds = ({ reference }: Family): number[] =>
  [reference.ids.start, reference.ids.forcedStart].filter((id) => id !== undefined)

export async function openOriginals({ folder, name }: Family, suffix = ''): Promise<Originals> {
  const onnx = join(folder, 'onnx')
  const open = (file: string) =>
    openOriginal(join(onnx, `${file}${suffix}.onnx`), onnx, { intraOpNumThreads: 1 })
  return {
    ...(name !== 'vit-gpt2' && { embed: await open('embed_tokens') }),
    ...(name === 'florence2' && { encoder: await open('encoder_model') }),
    decoder: await open('decoder_model_merged'),
  }
}
