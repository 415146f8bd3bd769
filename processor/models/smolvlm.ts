import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { idList, requireToken, tokenId } from './exported/config.ts'
import type { ExportedFamily } from './exported/family.ts'
import { readModelJson, requireModelJson } from './model-file.ts'
import { type PictureShape, readPictureConfig } from './pictures.ts'
import { openChat } from './text/chat.ts'
import { loadTokenizer } from './tokenizer.ts'

// Defaults are those of Hugging Face's Idefics3Config, whose text part is Llama's.
const configSchema = z.object({
  model_type: z.enum(['idefics3', 'smolvlm']),
  image_token_id: tokenId.default(128_257),
  scale_factor: z.int().min(1).max(64).default(2),
  vision_config: z
    .object({
      image_size: z.int().min(1).max(8192).default(224),
      patch_size: z.int().min(1).max(1024).default(32),
    })
    .prefault({}),
  text_config: z.object({
    max_position_embeddings: z.int().positive().default(2048),
    eos_token_id: idList.nullish(),
    pad_token_id: tokenId.nullish(),
  }),
  pad_token_id: tokenId.nullish(),
})
const processorSchema = z.looseObject({ image_seq_len: z.int().positive().nullish() })

const around = '<fake_token_around_image>'
const whole = '<global-img>'

/**
 * Opens an Idefics3 or a SmolVLM: a SigLIP encoder of square tiles, whose tokens a pixel shuffle joins, before a Llama.
 *
 * Laurençon et al., "Building and better understanding vision-language models" (2024); Marafioti et al., "SmolVLM" (2025).
 * Prompts as in Hugging Face's `processing_idefics3.py`.
 * @throws ModelFolderError
 */
export async function openSmolvlm(folder: string): Promise<ExportedFamily> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const processor = await readModelJson(folder, 'processor_config.json', processorSchema)
  const { vision_config: vision, text_config: text, image_token_id: imageId } = config
  const { rule, normalise } = await readPictureConfig(folder, ['tiles'])
  const side = vision.image_size / vision.patch_size / config.scale_factor
  const rows = Math.trunc(side * side)
  const stated = processor?.image_seq_len ?? rows
  if (stated !== rows)
    throw new ModelFolderError(
      `${join(folder, 'processor_config.json')}: image_seq_len is ${stated}, but the sizes in config.json make ${rows} tokens of a tile.`,
    )
  if (rule.kind !== 'tiles' || rule.tile !== vision.image_size)
    throw new ModelFolderError(
      `${join(folder, 'preprocessor_config.json')}: max_image_size must be ${vision.image_size}, as image_size in config.json.`,
    )
  const tokenizer = await loadTokenizer(folder)
  const imageToken = requireToken(folder, tokenizer, '<image>', imageId)
  const tile = (name: string) => [
    ...tokenizer.encodeTemplate(around + name),
    ...new Array<number>(rows).fill(imageId),
  ]
  const lineEnd = tokenizer.encodeTemplate('\n')
  const lastLineEnd = tokenizer.encodeTemplate('\n\n')
  const end = tokenizer.encodeTemplate(around)
  const expand = ({ rows: lines, cols }: PictureShape): number[] => [
    ...Array.from({ length: lines }, (_, row) => [
      ...Array.from({ length: cols }, (_, col) => tile(`<row_${row + 1}_col_${col + 1}>`)).flat(),
      ...(row < lines - 1 ? lineEnd : lastLineEnd),
    ]).flat(),
    ...tile(whole),
    ...end,
  ]
  const maxContext = text.max_position_embeddings
  const chat = await openChat({ folder, tokenizer, imageToken, imageId, expand, maxContext })
  return {
    family: config.model_type,
    folder,
    picture: rule,
    normalise,
    sessions: { vision: 'vision_encoder', embed: 'embed_tokens', decoder: 'decoder_model_merged' },
    follows: 'instructions',
    maxPictures: chat.maxPictures,
    imageRows: ({ count }) => count * rows,
    encode: chat.encode,
    decode: tokenizer.decode,
    endIds: text.eos_token_id ?? [],
    padId: config.pad_token_id ?? text.pad_token_id ?? 0,
    vocabulary: tokenizer.size,
    maxContext,
  }
}
