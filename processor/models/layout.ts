import { z } from 'zod'
import { chooseDtypes, type Dtype, LayoutError, sessionPath } from './exported/dtypes.ts'

const multimodal = ['vision_encoder', 'embed_tokens', 'decoder_model_merged']

/** Sessions of an exported model, by the `model_type` of its configuration. */
const sessionsOf: Readonly<Record<string, readonly string[]>> = {
  idefics3: multimodal,
  smolvlm: multimodal,
  llava: multimodal,
  qwen2_vl: multimodal,
  florence2: [...multimodal, 'encoder_model'],
  'vision-encoder-decoder': ['encoder_model', 'decoder_model_merged'],
}

/** Files beside the weights, small ones first, so that a wrong model fails early. Code is never among them. */
const blipFiles = [
  'config.json',
  'preprocessor_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'vocab.txt',
  'generation_config.json',
]
const exportedFiles = [
  ...['config.json', 'preprocessor_config.json', 'processor_config.json', 'generation_config.json'],
  ...['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'],
  ...['chat_template.json', 'chat_template.jinja'],
]
const taggerFiles = ['config.json', 'selected_tags.csv', 'model.onnx']

/** What is taken of a model. */
export interface Layout {
  family: string
  /** Names, in the order in which they are loaded. Only these are ever opened: what else a hub lists is not. */
  names: string[]
  /** Type of the weights of each session; absent where there is no choice. */
  sessions?: Record<string, Dtype>
}

export interface LayoutOptions {
  /** Names of all files. */
  files: readonly string[]
  /** Of config.json, as far as it is known; a tagger has none. */
  config: HubConfig | undefined
  /** Default: by the device and by what the model's configuration says. */
  dtype?: Dtype
  device: 'cpu' | 'gpu'
}

/** A number of files, or whether there is one. */
const chunks = z.union([z.boolean(), z.int().min(0).max(100)])
const dtypeName = z.string().max(20)

/** What config.json says of how the model is run. */
export const hubConfigSchema = z.looseObject({
  model_type: z.string().max(100).optional(),
  'transformers.js_config': z
    .looseObject({
      dtype: z
        .union([dtypeName, z.record(z.string(), dtypeName)])
        .optional()
        .catch(undefined),
      use_external_data_format: z
        .union([chunks, z.record(z.string(), chunks)])
        .optional()
        .catch(undefined),
    })
    .optional()
    .catch(undefined),
})
export type HubConfig = z.output<typeof hubConfigSchema>

export const isTagger = (files: readonly string[]) =>
  files.includes('model.onnx') && files.includes('selected_tags.csv')

export const isExported = (files: readonly string[]) =>
  files.some((name) => /^onnx\/[\w.-]+\.onnx$/.test(name))

/**
 * Chooses the files that will run.
 * @throws LayoutError that names what is missing, or what there is
 */
export function chooseLayout({ files, config, dtype, device }: LayoutOptions): Layout {
  const present = (names: readonly string[]) => names.filter((name) => files.includes(name))
  if (isTagger(files)) {
    if (dtype !== undefined && dtype !== 'fp32')
      throw new LayoutError(`has its model as fp32 only, not as ${dtype}.`)
    return { family: 'tagger', names: present(taggerFiles) }
  }
  const family = config?.model_type
  if (family === 'blip') {
    if (dtype !== undefined && dtype !== 'fp32')
      throw new LayoutError(
        'is a BLIP, which has no files of other types: TURBINE_PRECISION says how it computes.',
      )
    checkBlip(files)
    return { family, names: present([...blipFiles, 'model.safetensors']) }
  }
  const sessions = family !== undefined && Object.hasOwn(sessionsOf, family) ? sessionsOf[family]! : undefined
  if (!sessions)
    throw new LayoutError(`is a model of type ${JSON.stringify(family ?? null)}. ${servedFamilies}`)
  if (!isExported(files))
    throw new LayoutError('has no ONNX files (onnx/*.onnx). Choose an export of it, e.g. of onnx-community.')
  for (const name of ['preprocessor_config.json', 'tokenizer.json'])
    if (!files.includes(name))
      throw new LayoutError(`has no ${name}. Choose a model in the Hugging Face layout.`)
  const stated = config!['transformers.js_config']?.dtype
  const chosen = chooseDtypes(sessions, files, { dtype, device, stated })
  const weights = sessions.flatMap((session) => sessionFiles(session, chosen[session]!, files, config!))
  return { family: family!, names: [...present(exportedFiles), ...weights], sessions: chosen }
}

const servedFamilies = `Choose one of type ${['blip', ...Object.keys(sessionsOf)].join(', ')}, or a WD tagger.`

/** @throws LayoutError when a file of a BLIP is missing */
export function checkBlip(files: readonly string[]): void {
  const has = (name: string) => files.includes(name)
  if (!has('model.safetensors'))
    throw new LayoutError(
      has('pytorch_model.bin')
        ? 'has its weights as pytorch_model.bin only. Choose a --revision with model.safetensors (often refs/pr/<n>), ' +
            'or convert it: from_pretrained(...).save_pretrained(folder, safe_serialization=True).'
        : 'has no model.safetensors and no ONNX files (onnx/*.onnx). Choose a BLIP or an export, e.g. of onnx-community.',
    )
  for (const name of ['config.json', 'preprocessor_config.json'])
    if (!has(name)) throw new LayoutError(`has no ${name}. Choose a model in the Hugging Face layout.`)
  if (!has('tokenizer.json') && !has('vocab.txt'))
    throw new LayoutError('has no tokenizer.json and no vocab.txt. Choose a BLIP captioning model.')
}

/** Files that the weights of a session may be in. */
const mostChunks = 100

/** A session's file, and those with its weights. @throws LayoutError when one of them is missing */
function sessionFiles(session: string, dtype: Dtype, files: readonly string[], config: HubConfig): string[] {
  const file = sessionPath(session, dtype)
  const data = (chunk: number) => `${file}_data${chunk === 0 ? '' : `_${chunk}`}`
  const there = Array.from({ length: mostChunks }, (_, chunk) => data(chunk)).filter((each) =>
    files.includes(each),
  )
  const stated = Number(statedChunks(file.slice('onnx/'.length), session, config))
  if (stated > there.length)
    throw new LayoutError(
      `lacks ${stated - there.length} of the ${stated} files with the weights of ${file}.`,
    )
  return [file, ...there]
}

/** Files with the weights of a session, where the configuration says so of it alone; what it says of all is no more than a hint. */
function statedChunks(file: string, session: string, config: HubConfig): number | boolean {
  const stated = config['transformers.js_config']?.use_external_data_format
  if (typeof stated !== 'object') return false
  const name = [file, session].find((each) => Object.hasOwn(stated, each))
  return name === undefined ? false : stated[name]!
}
