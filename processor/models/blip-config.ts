import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { readModelJson, requireModelJson } from './model-file.ts'
import type { Resample } from './pictures.ts'

// Defaults are those of Hugging Face's BlipConfig: a saved config.json leaves out what equals them.
const visionSchema = z.object({
  hidden_size: z.int().positive().default(768),
  intermediate_size: z.int().positive().default(3072),
  num_hidden_layers: z.int().positive().default(12),
  num_attention_heads: z.int().positive().default(12),
  image_size: z.int().positive().default(384),
  patch_size: z.int().positive().default(16),
  hidden_act: z.literal('gelu').default('gelu'),
  layer_norm_eps: z.number().positive().default(1e-5),
})

const textSchema = z.object({
  vocab_size: z.int().positive().default(30524),
  hidden_size: z.int().positive().default(768),
  encoder_hidden_size: z.int().positive().default(768),
  intermediate_size: z.int().positive().default(3072),
  num_hidden_layers: z.int().positive().default(12),
  num_attention_heads: z.int().positive().default(8),
  max_position_embeddings: z.int().positive().default(512),
  hidden_act: z.literal('gelu').default('gelu'),
  layer_norm_eps: z.number().positive().default(1e-12),
  bos_token_id: z.int().default(30522),
  sep_token_id: z.int().default(102),
  pad_token_id: z.int().default(0),
  max_length: z.int().positive().optional(),
})

const configSchema = z.object({
  model_type: z.literal('blip'),
  vision_config: visionSchema.prefault({}),
  text_config: textSchema.prefault({}),
})

const preprocessorSchema = z.object({
  size: z
    .union([z.object({ height: z.int().positive(), width: z.int().positive() }), z.int().positive()])
    .optional(),
  do_resize: z.literal(true).default(true),
  resample: z.int().default(3),
  do_rescale: z.boolean().default(true),
  rescale_factor: z.number().default(1 / 255),
  do_normalize: z.boolean().default(true),
  image_mean: z.array(z.number()).length(3).default([0.48145466, 0.4578275, 0.40821073]),
  image_std: z.array(z.number().positive()).length(3).default([0.26862954, 0.26130258, 0.27577711]),
})

const generationSchema = z.object({
  max_length: z.int().positive().nullish(),
  max_new_tokens: z.int().positive().nullish(),
})

/** Default of Hugging Face's `generate`; the start token counts. */
const defaultMaxLength = 20

type BlipVisionConfig = z.infer<typeof visionSchema>
export type BlipTextConfig = z.infer<typeof textSchema>

/** Configuration of a BLIP captioning folder. */
export interface BlipConfig {
  vision: BlipVisionConfig
  text: BlipTextConfig
  /** Per channel, on pixels 0 to 255: `pixel * scale + shift`. */
  normalise: { scale: number[]; shift: number[] }
  resample: Resample
  /** Maximum ids of a caption, including start token, prompt and end token. */
  maxLength: number
  /** `max_new_tokens` of generation_config.json: overrides `maxLength`. */
  maxNewTokens?: number
}

/**
 * Reads config.json, preprocessor_config.json and the optional generation_config.json.
 * @throws ModelFolderError that names the file and the field.
 */
export async function readBlipConfig(folder: string): Promise<BlipConfig> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const preprocessor = await requireModelJson(folder, 'preprocessor_config.json', preprocessorSchema)
  const generation = (await readModelJson(folder, 'generation_config.json', generationSchema)) ?? {}
  const { vision_config: vision, text_config: text } = config
  checkSizes(folder, vision, text, preprocessor.size)

  const positions = text.max_position_embeddings
  const maxNewTokens = generation.max_new_tokens
    ? Math.min(generation.max_new_tokens, positions - 1)
    : undefined
  const maxLength = generation.max_length ?? text.max_length ?? defaultMaxLength
  const factor = preprocessor.do_rescale ? preprocessor.rescale_factor : 1
  const [mean, std] = preprocessor.do_normalize
    ? [preprocessor.image_mean, preprocessor.image_std]
    : [
        [0, 0, 0],
        [1, 1, 1],
      ]
  return {
    vision,
    text,
    normalise: { scale: std.map((s) => factor / s), shift: mean.map((m, c) => -m / std[c]!) },
    resample: resampleOf(folder, preprocessor.resample),
    maxLength: Math.min(maxNewTokens ? maxNewTokens + 1 : maxLength, positions),
    maxNewTokens,
  }
}

function checkSizes(
  folder: string,
  vision: BlipVisionConfig,
  text: BlipTextConfig,
  size: z.infer<typeof preprocessorSchema>['size'],
): void {
  const fail = (why: string) => {
    throw new ModelFolderError(`${join(folder, 'config.json')}: ${why}`)
  }
  if (vision.hidden_size % vision.num_attention_heads)
    fail('vision_config.hidden_size is not a multiple of num_attention_heads.')
  if (text.hidden_size % text.num_attention_heads)
    fail('text_config.hidden_size is not a multiple of num_attention_heads.')
  if (vision.image_size % vision.patch_size) fail('vision_config.image_size is not a multiple of patch_size.')
  if (text.encoder_hidden_size !== vision.hidden_size)
    fail('text_config.encoder_hidden_size differs from vision_config.hidden_size.')
  const sides = typeof size === 'number' ? [size] : size ? [size.height, size.width] : []
  if (sides.some((side) => side !== vision.image_size))
    throw new ModelFolderError(
      `${join(folder, 'preprocessor_config.json')}: size must be ${vision.image_size} x ${vision.image_size}, as in config.json, got ${sides.join(' x ')}.`,
    )
}

function resampleOf(folder: string, pillowNumber: number): Resample {
  const kernels: Record<number, Resample> = { 0: 'nearest', 1: 'lanczos3', 2: 'bilinear', 3: 'bicubic' }
  const kernel = kernels[pillowNumber]
  if (kernel) return kernel
  throw new ModelFolderError(
    `${join(folder, 'preprocessor_config.json')}: resample must be 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic), got ${pillowNumber}.`,
  )
}
