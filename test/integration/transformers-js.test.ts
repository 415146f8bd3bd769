import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import {
  AutoModelForImageTextToText,
  AutoModelForVision2Seq,
  AutoProcessor,
  AutoTokenizer,
  env,
  type PreTrainedModel,
  type PreTrainedTokenizer,
  type Processor,
  RawImage,
  Tensor,
} from '@huggingface/transformers'
import { beforeAll, describe, expect, it } from 'vitest'

/**
 * The folders of test/fixtures/models are what transformers.js takes, as it is published: it loads them without a
 * change, and answers as Hugging Face's Python does on the same pixels. So what Turbine makes of the same folders can be
 * held against it.
 */
const models = fileURLToPath(new URL('../fixtures/models/', import.meta.url))

interface View {
  picture: string
  options: { size?: { longest_edge: number }; do_image_splitting?: boolean; max_pixels?: number }
  shape: { count: number; rows: number; cols: number }
  pixels: string
  pixelsShape: number[]
  means: number[]
}

interface Case {
  name: string
  views: string[]
  messages: { role: string; content: { type: string; text?: string }[] }[]
  beginning?: string
  prompt: string
  inputIds: number[]
  options: Record<string, unknown>
  maxNewTokens: number
  ids: number[]
}

interface Reference {
  ids: { image?: number; start?: number; forcedStart?: number }
  views: Record<string, View>
  cases: Case[]
}

type Feeds = Record<string, Tensor>

/** How a family's sessions take what a case holds. */
interface Family {
  name: string
  /** Cases that the package answers otherwise than `transformers`, and why. */
  unanswered: Record<string, string>
  /** Cases whose prompt its preprocessing makes otherwise, and why. */
  unasked: Record<string, string>
  feeds(reference: Reference, given: Case, pixels: Tensor[]): Feeds
  /** The ids of a prompt by the package's own preprocessing, where it has one. */
  promptIds?(loaded: Loaded, given: Case): Promise<number[]>
}

interface Loaded {
  folder: string
  reference: Reference
  model: PreTrainedModel
  processor: Processor
  tokenizer: PreTrainedTokenizer
}

const session_options = { intraOpNumThreads: 1, interOpNumThreads: 1 }
const noBeams = { beams: 'no beams', 'beams-and-guard': 'no beams', 'as-the-folder-says': 'no beams' }
const oneImage = 'expands the first image only'

const families: Family[] = [
  {
    name: 'smolvlm',
    unanswered: {},
    unasked: {},
    feeds: (_, given, pixels) => {
      const tiles = pixels.length > 0 ? join0(pixels) : undefined
      return {
        ...textFeeds(given.inputIds),
        ...(tiles && {
          pixel_values: tiles.unsqueeze(0),
          pixel_attention_mask: ones([1, tiles.dims[0]!, ...tiles.dims.slice(2)]),
        }),
      }
    },
    async promptIds(loaded, given) {
      const images = await imagesOf(loaded, given)
      const { options } = loaded.reference.views[given.views[0]!]!
      const image = loaded.processor.image_processor as unknown as { size: { longest_edge: number } }
      image.size = options.size ?? readJson(join(loaded.folder, 'preprocessor_config.json')).size
      const splitting = { do_image_splitting: options.do_image_splitting ?? true }
      return idsOf(await loaded.processor(chatText(loaded, given), [images], splitting))
    },
  },
  {
    name: 'llava',
    unanswered: {},
    unasked: { 'two-pictures': oneImage },
    feeds: (_, given, pixels) => ({
      ...textFeeds(given.inputIds),
      ...(pixels.length > 0 && { pixel_values: join0(pixels) }),
    }),
    promptIds: async (loaded, given) =>
      idsOf(await loaded.processor(await imagesOf(loaded, given), chatText(loaded, given))),
  },
  {
    name: 'qwen2-vl',
    unanswered: { 'no-picture': 'counts the positions of text alone otherwise from the second step on' },
    unasked: { 'two-pictures': oneImage },
    feeds: ({ views }, given, pixels) => ({
      ...textFeeds(given.inputIds),
      ...(pixels.length > 0 && {
        pixel_values: join0(pixels),
        image_grid_thw: int64(
          given.views.flatMap((view) => [1, views[view]!.shape.rows, views[view]!.shape.cols]),
          [given.views.length, 3],
        ),
      }),
    }),
    async promptIds(loaded, given) {
      const { options } = loaded.reference.views[given.views[0]!]!
      const image = loaded.processor.image_processor as unknown as { max_pixels: number }
      image.max_pixels =
        options.max_pixels ?? readJson(join(loaded.folder, 'preprocessor_config.json')).max_pixels
      return idsOf(await loaded.processor(chatText(loaded, given), await imagesOf(loaded, given)))
    },
  },
  {
    name: 'florence2',
    unanswered: noBeams,
    unasked: {},
    feeds: ({ ids }, given, pixels) => ({
      ...textFeeds(given.inputIds.filter((id) => id !== ids.image)),
      pixel_values: pixels[0]!,
    }),
    async promptIds(loaded, given) {
      const text = given.messages[0]!.content[1]!.text!
      const { reference } = loaded
      const asked = await loaded.processor(await imagesOf(loaded, given), text)
      return [...given.inputIds.filter((id) => id === reference.ids.image), ...idsOf(asked)]
    },
  },
  {
    name: 'vit-gpt2',
    unanswered: noBeams,
    unasked: {},
    feeds: (_, given, pixels) => ({
      pixel_values: pixels[0]!,
      decoder_input_ids: int64(given.inputIds, [1, given.inputIds.length]),
    }),
  },
]

beforeAll(() => {
  env.allowRemoteModels = false
  env.localModelPath = models
  env.useFSCache = false
})

describe.each(families)('transformers.js on $name', (family) => {
  let loaded: Loaded
  const folder = join(models, family.name)
  const reference: Reference = readJson(join(folder, 'reference.json'))

  beforeAll(async () => {
    const Model = family.name === 'vit-gpt2' ? AutoModelForVision2Seq : AutoModelForImageTextToText
    loaded = {
      folder,
      reference,
      model: await Model.from_pretrained(family.name, { dtype: 'fp32', session_options }),
      processor: await AutoProcessor.from_pretrained(family.name),
      tokenizer: await AutoTokenizer.from_pretrained(family.name),
    }
  })

  const answered = reference.cases.filter(({ name }) => !(name in family.unanswered))

  it.each(answered)('answers $name as transformers does', async (given) => {
    const pixels = given.views.map((view) => pixelsOf(folder, reference.views[view]!))
    const inputs = family.feeds(reference, given, pixels)
    const output = (await loaded.model.generate({
      ...inputs,
      do_sample: false,
      max_new_tokens: given.maxNewTokens,
      ...given.options,
    } as never)) as Tensor
    const before = (inputs.decoder_input_ids ?? (reference.ids.start === undefined && inputs.input_ids)) || 1
    const skipped = before === 1 ? 1 : before.dims[1]!
    expect(output.tolist()[0].slice(skipped).map(Number)).toEqual(given.ids)
  })

  const { promptIds } = family
  const asked = reference.cases.filter(({ name, views }) => views.length > 0 && !(name in family.unasked))

  it.each(promptIds ? asked : [])('asks for $name as transformers does', async (given) => {
    expect(await promptIds!(loaded, given)).toEqual(given.inputIds)
  })

  it('decodes what it encodes', () => {
    const text = 'Häuser 10 🌳 \n\t x  y'
    const ids = loaded.tokenizer.encode(text, { add_special_tokens: false })
    expect(loaded.tokenizer.decode(ids, { clean_up_tokenization_spaces: false })).toBe(text)
  })
})

describe('transformers.js on smolvlm in other dtypes', () => {
  const folder = join(models, 'smolvlm')
  const reference: Reference = readJson(join(folder, 'reference.json'))
  const stepByStep: Record<string, Record<string, number[]>> = readJson(join(folder, 'reference/dtypes.json'))
  const { feeds } = families.find(({ name }) => name === 'smolvlm')!

  it.each([
    ['fp16', 'fp16'],
    ['q4', 'q4'],
    ['q8', 'quantized'],
  ] as const)('answers in %s as the files do step by step', async (dtype, suffix) => {
    const model = await AutoModelForImageTextToText.from_pretrained('smolvlm', { dtype, session_options })
    for (const given of reference.cases.filter(({ name }) => name in stepByStep[suffix]!)) {
      const pixels = given.views.map((view) => pixelsOf(folder, reference.views[view]!))
      const ids = stepByStep[suffix]![given.name]!
      const settings = { do_sample: false, max_new_tokens: ids.length }
      const output = (await model.generate({
        ...feeds(reference, given, pixels),
        ...settings,
      } as never)) as Tensor
      expect(output.tolist()[0].slice(given.inputIds.length).map(Number), given.name).toEqual(ids)
    }
  })
})

const readJson = (file: string) => JSON.parse(readFileSync(file, 'utf8'))
const idsOf = (encoded: { input_ids: Tensor }): number[] => encoded.input_ids.tolist()[0].map(Number)
const int64 = (values: number[], dims: number[]) =>
  new Tensor('int64', BigInt64Array.from(values, BigInt), dims)
const ones = (dims: number[]) =>
  new Tensor('bool', new Uint8Array(dims.reduce((a, b) => a * b)).fill(1), dims)

const textFeeds = (ids: number[]): Feeds => ({
  input_ids: int64(ids, [1, ids.length]),
  attention_mask: int64(
    ids.map(() => 1),
    [1, ids.length],
  ),
})

const imagesOf = ({ reference }: Loaded, { views }: Case) =>
  Promise.all(views.map((view) => RawImage.read(join(models, reference.views[view]!.picture))))

/** A chat by the folder's own template. */
function chatText({ tokenizer }: Loaded, { messages, beginning = '', prompt }: Case): string {
  const options = { add_generation_prompt: true, tokenize: false } as const
  const text = (tokenizer.apply_chat_template(messages as never, options) as string) + beginning
  expect(text).toBe(prompt)
  return text
}

/** The reference's own pixels, normalised: `[count, 3, H, W]`, or patches with their copy in time. */
function pixelsOf(folder: string, { pixels, pixelsShape, means }: View): Tensor {
  const { image_mean, image_std } = readJson(join(folder, 'preprocessor_config.json'))
  const bytes = gunzipSync(readFileSync(join(folder, pixels)))
  const normalised = (at: number, channel: number) =>
    (bytes[at]! / 255 - image_mean[channel]) / image_std[channel]
  const [count, height, width] = pixelsShape as [number, number, number]
  const inPatches = pixelsShape.length === 2
  const [area, copies] = inPatches ? [height / 3, 2] : [height * width, 1]
  const values = new Float32Array(bytes.length * copies)
  const sums = [0, 0, 0]
  let at = 0
  for (let image = 0; image < count; image++)
    for (let channel = 0; channel < 3; channel++)
      for (let copy = 0; copy < copies; copy++)
        for (let place = 0; place < area; place++) {
          const from = inPatches ? channel * area + place : 3 * place + channel
          values[at] = normalised(3 * area * image + from, channel)
          sums[channel]! += values[at++]!
        }
  for (const [channel, mean] of means.entries())
    expect((3 * sums[channel]!) / values.length).toBeCloseTo(mean, 4)
  return new Tensor('float32', values, inPatches ? [count, copies * height] : [count, 3, height, width])
}

/** Tensors one after the other on their first axis. */
function join0(tensors: Tensor[]): Tensor {
  const values = tensors.flatMap((tensor) => Array.from(tensor.data as Float32Array))
  const count = tensors.reduce((sum, tensor) => sum + tensor.dims[0]!, 0)
  return new Tensor('float32', Float32Array.from(values), [count, ...tensors[0]!.dims.slice(1)])
}
