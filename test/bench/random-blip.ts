import { createHash } from 'node:crypto'
import { link, mkdir, open, rename, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'

/** Sizes of a BLIP captioner. */
export interface BlipSizes {
  side: number
  patch: number
  width: number
  layers: number
  heads: number
  textLayers: number
  /** Width and heads of the text decoder; default: those of the vision encoder. */
  textWidth?: number
  textHeads?: number
  vocabulary: number
}

/** Salesforce/blip-image-captioning-base. */
export const blipBase: BlipSizes = {
  side: 384,
  patch: 16,
  width: 768,
  layers: 12,
  heads: 12,
  textLayers: 12,
  vocabulary: 30524,
}

/** So small that it takes no time, with enough image tokens that some merge. */
export const blipTiny: BlipSizes = {
  side: 128,
  patch: 16,
  width: 32,
  layers: 2,
  heads: 2,
  textLayers: 1,
  vocabulary: 64,
}

/** Salesforce/blip-image-captioning-large. */
const blipLarge: BlipSizes = {
  ...blipBase,
  width: 1024,
  layers: 24,
  heads: 16,
  textWidth: 768,
  textHeads: 12,
}

/** Between the two: for trying out. */
const blipSmall: BlipSizes = {
  ...blipBase,
  side: 128,
  width: 192,
  layers: 4,
  heads: 3,
  textLayers: 2,
  vocabulary: 1000,
}

/** Sizes as options name them. */
export const blipSizes: Record<string, BlipSizes> = {
  tiny: blipTiny,
  small: blipSmall,
  base: blipBase,
  large: blipLarge,
}

/**
 * Writes a Hugging Face BLIP folder with random weights (float32) below `parent` and returns its path; one that is
 * there already is used again. What such a model says means nothing: it is for timing.
 */
export async function randomBlip(parent: string, sizes: BlipSizes = blipBase): Promise<string> {
  const name = createHash('sha256').update(JSON.stringify(sizes)).digest('hex').slice(0, 8)
  const folder = join(parent, `random-blip-${name}`)
  await mkdir(folder, { recursive: true })
  const file = join(folder, 'model.safetensors')
  if (await stat(file).catch(() => undefined)) return folder
  await writeConfig(folder, sizes)
  await writeWeights(`${file}.part`, blipTensors(sizes))
  await rename(`${file}.part`, file)
  return folder
}

/**
 * The same model with captions of at most so many ids, the start id not counted: a folder beside, whose weights are the same file.
 */
export async function withIds(folder: string, ids: number): Promise<string> {
  const made = `${folder}-${ids}-ids`
  await mkdir(made, { recursive: true })
  for (const name of ['config.json', 'preprocessor_config.json', 'vocab.txt', 'model.safetensors'])
    await link(join(folder, name), join(made, name)).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error
    })
  await writeFile(join(made, 'generation_config.json'), JSON.stringify({ max_new_tokens: ids }))
  return made
}

async function writeConfig(folder: string, s: BlipSizes): Promise<void> {
  const { textWidth = s.width } = s
  const config = {
    model_type: 'blip',
    vision_config: {
      hidden_size: s.width,
      intermediate_size: 4 * s.width,
      num_hidden_layers: s.layers,
      num_attention_heads: s.heads,
      image_size: s.side,
      patch_size: s.patch,
    },
    text_config: {
      vocab_size: s.vocabulary,
      hidden_size: textWidth,
      encoder_hidden_size: s.width,
      intermediate_size: 4 * textWidth,
      num_hidden_layers: s.textLayers,
      num_attention_heads: s.textHeads ?? s.heads,
      bos_token_id: s.vocabulary - 2,
    },
  }
  const words = ['[PAD]', '[UNK]', '[CLS]', '[SEP]', '[MASK]']
  const vocabulary = Array.from({ length: s.vocabulary }, (_, i) => words[i] ?? `word${i}`)
  await writeFile(join(folder, 'config.json'), JSON.stringify(config))
  await writeFile(join(folder, 'preprocessor_config.json'), JSON.stringify({ size: s.side }))
  await writeFile(join(folder, 'vocab.txt'), `${vocabulary.join('\n')}\n`)
}

/** Every tensor of Hugging Face's `BlipForConditionalGeneration`: name and shape. */
function blipTensors(s: BlipSizes): [string, number[]][] {
  const d = s.width
  const t = s.textWidth ?? d
  const linear = (name: string, to: number, from: number): [string, number[]][] => [
    [`${name}.weight`, [to, from]],
    [`${name}.bias`, [to]],
  ]
  const norm = (name: string, width = d): [string, number[]][] => [
    [`${name}.weight`, [width]],
    [`${name}.bias`, [width]],
  ]
  const vision = 'vision_model'
  const text = 'text_decoder.bert'
  const head = 'text_decoder.cls.predictions'
  const visionLayer = (at: string) => [
    ...norm(`${at}.layer_norm1`),
    ...norm(`${at}.layer_norm2`),
    ...linear(`${at}.self_attn.qkv`, 3 * d, d),
    ...linear(`${at}.self_attn.projection`, d, d),
    ...linear(`${at}.mlp.fc1`, 4 * d, d),
    ...linear(`${at}.mlp.fc2`, d, 4 * d),
  ]
  const textAttention = (at: string, from: number) => [
    ...linear(`${at}.self.query`, t, t),
    ...['key', 'value'].flatMap((part) => linear(`${at}.self.${part}`, t, from)),
    ...linear(`${at}.output.dense`, t, t),
    ...norm(`${at}.output.LayerNorm`, t),
  ]
  const textLayer = (at: string) => [
    ...textAttention(`${at}.attention`, t),
    ...textAttention(`${at}.crossattention`, d),
    ...linear(`${at}.intermediate.dense`, 4 * t, t),
    ...linear(`${at}.output.dense`, t, 4 * t),
    ...norm(`${at}.output.LayerNorm`, t),
  ]
  return [
    [`${vision}.embeddings.class_embedding`, [1, 1, d]],
    [`${vision}.embeddings.position_embedding`, [1, (s.side / s.patch) ** 2 + 1, d]],
    [`${vision}.embeddings.patch_embedding.weight`, [d, 3, s.patch, s.patch]],
    [`${vision}.embeddings.patch_embedding.bias`, [d]],
    ...Array.from({ length: s.layers }, (_, i) => visionLayer(`${vision}.encoder.layers.${i}`)).flat(),
    ...norm(`${vision}.post_layernorm`),
    [`${text}.embeddings.word_embeddings.weight`, [s.vocabulary, t]],
    [`${text}.embeddings.position_embeddings.weight`, [512, t]],
    ...norm(`${text}.embeddings.LayerNorm`, t),
    ...Array.from({ length: s.textLayers }, (_, i) => textLayer(`${text}.encoder.layer.${i}`)).flat(),
    ...linear(`${head}.transform.dense`, t, t),
    ...norm(`${head}.transform.LayerNorm`, t),
    [`${head}.bias`, [s.vocabulary]],
  ]
}

/** Uniform weights of deviation 0.03 from one repeated block of numbers; layer norms get weights of 1. */
async function writeWeights(path: string, tensors: [string, number[]][]): Promise<void> {
  const header: Record<string, { dtype: 'F32'; shape: number[]; data_offsets: [number, number] }> = {}
  let end = 0
  for (const [name, shape] of tensors) {
    const bytes = 4 * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'F32', shape, data_offsets: [end, end + bytes] }
    end += bytes
  }
  const json = Buffer.from(JSON.stringify(header))
  const prefix = Buffer.alloc(8)
  prefix.writeBigUInt64LE(BigInt(json.length))
  const noise = randomBlock(4_194_301)
  const file = await open(path, 'w')
  try {
    await file.writev([prefix, json])
    let at = 0
    for (const [name, shape] of tensors) {
      const count = shape.reduce((a, b) => a * b, 1)
      const isScale = name.includes('orm') && name.endsWith('weight')
      if (isScale) await file.write(new Uint8Array(new Float32Array(count).fill(1).buffer))
      for (let done = 0; !isScale && done < count; ) {
        const take = Math.min(count - done, noise.length - at)
        await file.write(new Uint8Array(noise.buffer, at * 4, take * 4))
        at = (at + take) % noise.length
        done += take
      }
    }
  } finally {
    await file.close()
  }
}

/** Uniform numbers of deviation 0.03, the same every time. */
export function randomBlock(length: number): Float32Array {
  let state = 1
  return Float32Array.from({ length }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) * 0.052
  })
}
