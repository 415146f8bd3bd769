import { z } from 'zod'
import { idList, tokenId } from './exported/config.ts'
import type { ExportedFamily } from './exported/family.ts'
import { requireModelJson } from './model-file.ts'
import { readPictureConfig, unitOf } from './pictures.ts'
import { PromptError } from './prompts.ts'
import { loadTokenizer } from './tokenizer.ts'

const configSchema = z.object({
  model_type: z.literal('vision-encoder-decoder'),
  encoder: z.object({
    model_type: z.enum(['vit', 'deit']),
    patch_size: z.int().min(1).default(16),
  }),
  decoder: z.object({
    model_type: z.literal('gpt2'),
    n_positions: z.int().positive().default(1024),
    bos_token_id: tokenId.default(50_256),
    eos_token_id: idList.default([50_256]),
    decoder_start_token_id: tokenId.nullish(),
    pad_token_id: tokenId.nullish(),
  }),
  decoder_start_token_id: tokenId.nullish(),
  pad_token_id: tokenId.nullish(),
  eos_token_id: idList.nullish(),
})

/**
 * Opens a ViT with a GPT-2 that reads its tokens across: a captioner that follows no text, but goes on with a beginning.
 *
 * Kumar, "The Illustrated Image Captioning using transformers" (2022); Hugging Face's `VisionEncoderDecoderModel`.
 * @throws ModelFolderError
 */
export async function openVitGpt2(folder: string): Promise<ExportedFamily> {
  const config = await requireModelJson(folder, 'config.json', configSchema)
  const { encoder, decoder } = config
  const { rule, normalise } = await readPictureConfig(folder, ['squash'])
  const [height, width] = unitOf(rule)
  const patches = Math.floor(height / encoder.patch_size) * Math.floor(width / encoder.patch_size)
  // Class tokens: DeiT has one more, of its teacher.
  const rows = patches + (encoder.model_type === 'deit' ? 2 : 1)
  const tokenizer = await loadTokenizer(folder)
  const startId = config.decoder_start_token_id ?? decoder.decoder_start_token_id ?? decoder.bos_token_id
  const endIds = config.eos_token_id ?? decoder.eos_token_id
  const maxContext = decoder.n_positions
  return {
    family: 'vision-encoder-decoder',
    folder,
    picture: rule,
    normalise,
    sessions: { vision: 'encoder_model', decoder: 'decoder_model_merged' },
    follows: 'none',
    maxPictures: 1,
    imageRows: () => rows,
    encode: async ({ beginning = '' }) => {
      const begun = tokenizer.encodePrompt(beginning)
      if (begun.length + 1 >= maxContext)
        throw new PromptError(
          'prompt_too_long',
          `The beginning has ${begun.length} tokens; this model writes at most ${maxContext}. Shorten it.`,
        )
      return { ids: [], places: [], start: [startId, ...begun] }
    },
    decode: tokenizer.decode,
    endIds,
    padId: config.pad_token_id ?? decoder.pad_token_id ?? endIds[0]!,
    vocabulary: tokenizer.size,
    maxContext,
  }
}
