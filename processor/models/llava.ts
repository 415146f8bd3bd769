import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { idList, requireToken, tokenId } from './exported/config.ts'
import type { ExportedFamily } from './exported/family.ts'
import { readModelJson, requireModelJson } from './model-file.ts'
import { readPictureConfig, unitOf } from './pictures.ts'
import { openChat } from './text/chat.ts'
import { loadTokenizer } from './tokenizer.ts'

const selection = z.enum(['default', 'full'])

const configSchema = z.object({
  model_type: z.literal('llava'),
  image_token_index: tokenId.nullish(),
  image_token_id: tokenId.nullish(),
  image_seq_length: z.int().positive().nullish(),
  vision_feature_select_strategy: selection.default('default'),
  vision_config: z
    .object({ model_type: z.string().default('clip_vision_model'), patch_size: z.int().min(1).default(14) })
    .prefault({}),
  text_config: z.object({
    max_position_embeddings: z.int().positive().default(2048),
    eos_token_id: idList.nullish(),
    pad_token_id: tokenId.nullish(),
  }),
  pad_token_id: tokenId.nullish(),
})

const processorSchema = z.looseObject({
  image_token: z.string().min(1).nullish(),
  patch_size: z.int().min(1).nullish(),
  num_additional_image_tokens: z.int().min(0).max(16).nullish(),
  vision_feature_select_strategy: selection.nullish(),
})

/**
 * Opens a LLaVA: CLIP or SigLIP, a projector, and a language model of any kind.
 *
 * Liu et al., "Visual Instruction Tuning", NeurIPS 2023. Image tokens as in Hugging Face's `processing_llava.py`.
 * @throws ModelFolderError
 */
export async function openLlava(folder: string): Promise<ExportedFamily> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const processor = (await readModelJson(folder, 'processor_config.json', processorSchema)) ?? {}
  const { text_config: text } = config
  const imageId = config.image_token_index ?? config.image_token_id ?? 32_000
  const { rule, normalise } = await readPictureConfig(folder, ['crop', 'squash', 'pad'])
  const [height, width] = unitOf(rule)
  const rows = imageTokens(config, processor, { height, width })
  if (rows < 1 || rows > 65_536)
    throw new ModelFolderError(
      `${join(folder, 'processor_config.json')}: a picture would have ${rows} tokens.`,
    )
  const tokenizer = await loadTokenizer(folder)
  const imageToken = requireToken(folder, tokenizer, processor.image_token ?? '<image>', imageId)
  const maxContext = text.max_position_embeddings
  const expand = () => new Array<number>(rows).fill(imageId)
  const chat = await openChat({ folder, tokenizer, imageToken, imageId, expand, maxContext })
  return {
    family: 'llava',
    folder,
    picture: rule,
    normalise,
    sessions: { vision: 'vision_encoder', embed: 'embed_tokens', decoder: 'decoder_model_merged' },
    follows: 'instructions',
    maxPictures: chat.maxPictures,
    imageRows: () => rows,
    encode: chat.encode,
    decode: tokenizer.decode,
    endIds: text.eos_token_id ?? [],
    padId: config.pad_token_id ?? text.pad_token_id ?? 0,
    vocabulary: tokenizer.size,
    maxContext,
  }
}

/** Patches, a class token where the features keep it; older folders say nothing, and leave it out as the model does. */
function imageTokens(
  config: z.output<typeof configSchema>,
  processor: z.output<typeof processorSchema>,
  { height, width }: { height: number; width: number },
): number {
  const patch = processor.patch_size ?? config.vision_config.patch_size
  const patches = Math.floor(height / patch) * Math.floor(width / patch)
  if (processor.patch_size) {
    const dropped = processor.vision_feature_select_strategy === 'default' ? 1 : 0
    return patches + (processor.num_additional_image_tokens ?? 0) - dropped
  }
  if (config.image_seq_length) return config.image_seq_length
  const hasClass = config.vision_config.model_type.startsWith('clip')
  return patches + (hasClass && config.vision_feature_select_strategy === 'full' ? 1 : 0)
}
