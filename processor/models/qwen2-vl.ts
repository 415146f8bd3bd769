import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { idList, requireToken, tokenId } from './exported/config.ts'
import type { ExportedFamily, Positions } from './exported/family.ts'
import { requireModelJson } from './model-file.ts'
import { type PictureShape, readPictureConfig } from './pictures.ts'
import type { EncodedPrompt } from './prompts.ts'
import { openChat } from './text/chat.ts'
import { loadTokenizer } from './tokenizer.ts'

const textSchema = z.object({
  max_position_embeddings: z.int().positive().default(32_768),
  eos_token_id: idList.nullish(),
  pad_token_id: tokenId.nullish(),
})
const configSchema = z.looseObject({
  model_type: z.literal('qwen2_vl'),
  image_token_id: tokenId.default(151_655),
  vision_config: z.object({
    patch_size: z.int().min(1).default(14),
    spatial_merge_size: z.int().min(1).default(2),
    temporal_patch_size: z.literal(2).default(2),
  }),
  eos_token_id: idList.nullish(),
  pad_token_id: tokenId.nullish(),
})

/** Where the configuration of an older folder has no part for text, it is all around. */
const placesSchema = z.union([z.looseObject({ text_config: textSchema }), textSchema])

/**
 * Opens a Qwen2-VL: an encoder of patches of any number, and a Qwen2 whose positions are in three dimensions.
 *
 * Wang et al., "Qwen2-VL" (2024). Prompts as in Hugging Face's `processing_qwen2_vl.py`, positions as in `get_rope_index`.
 * @throws ModelFolderError
 */
export async function openQwen2Vl(folder: string): Promise<ExportedFamily> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const places = await requireModelJson(folder, 'config.json', placesSchema)
  const text = 'text_config' in places ? (places.text_config as z.output<typeof textSchema>) : places
  const { vision_config: vision, image_token_id: imageId } = config
  const { rule, normalise } = await readPictureConfig(folder, ['patches'])
  const merge = vision.spatial_merge_size
  if (rule.kind !== 'patches' || rule.patch !== vision.patch_size || rule.merge !== merge)
    throw new ModelFolderError(
      `${join(folder, 'preprocessor_config.json')}: patch_size and merge_size must be ${vision.patch_size} and ${merge}, as in config.json.`,
    )
  const tokenizer = await loadTokenizer(folder)
  const imageToken = requireToken(folder, tokenizer, '<|image_pad|>', imageId)
  const imageRows = ({ count }: PictureShape) => count / merge ** 2
  const expand = (shape: PictureShape) => new Array<number>(imageRows(shape)).fill(imageId)
  const maxContext = text.max_position_embeddings
  const chat = await openChat({ folder, tokenizer, imageToken, imageId, expand, maxContext })
  return {
    family: 'qwen2_vl',
    folder,
    picture: rule,
    normalise,
    sessions: { vision: 'vision_encoder', embed: 'embed_tokens', decoder: 'decoder_model_merged' },
    follows: 'instructions',
    maxPictures: chat.maxPictures,
    imageRows,
    encode: chat.encode,
    positions: (prompt, pictures) => positionsOf(prompt, pictures, merge),
    decode: tokenizer.decode,
    endIds: config.eos_token_id ?? text.eos_token_id ?? [],
    padId: config.pad_token_id ?? text.pad_token_id ?? 0,
    vocabulary: tokenizer.size,
    maxContext,
  }
}

/**
 * Positions of time, height and width. Text runs on in all three; the rows of a picture begin where the text has come to, and
 * have their place in its merged grid; the text behind begins after the largest of them.
 *
 * @param merge patches on each side of a row
 */
export function positionsOf(
  { ids, places }: EncodedPrompt,
  pictures: readonly PictureShape[],
  merge: number,
): Positions {
  const positions: Positions['positions'] = [[], [], []]
  let next = 0
  let place = 0
  let picture = 0
  for (let index = 0; index < ids.length; ) {
    if (places[place] !== index) {
      for (const axis of positions) axis.push(next)
      next++
      index++
      continue
    }
    const shape = pictures[picture++]!
    const [lines, columns] = [shape.rows / merge, shape.cols / merge]
    for (let row = 0; row < lines; row++)
      for (let col = 0; col < columns; col++) {
        positions[0].push(next)
        positions[1].push(next + row)
        positions[2].push(next + col)
      }
    next += Math.max(lines, columns)
    index += lines * columns
    place += lines * columns
  }
  return { positions, next }
}
