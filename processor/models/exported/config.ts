import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
import { requireModelJson } from '../model-file.ts'
import type { CaptionTokenizer } from '../tokenizer.ts'

export const tokenId = z.int().min(0)
/** One id or several, as `eos_token_id` is. */
export const idList = z.union([tokenId.transform((id) => [id]), z.array(tokenId).max(256)])

/** A token whose id the configuration has as well. @throws ModelFolderError where the tokenizer has another */
export function requireToken(folder: string, tokenizer: CaptionTokenizer, token: string, id: number): string {
  const found = tokenizer.idOf(token)
  if (found === id) return token
  throw new ModelFolderError(
    `${join(folder, 'tokenizer.json')} ${found === undefined ? `has no token ${token}` : `has ${token} as ${found}`}; config.json asks for ${id}.`,
  )
}

const headSchema = z.looseObject({
  head_dim: z.int().min(1).max(4096).nullish(),
  hidden_size: z.int().min(1).max(1_000_000).nullish(),
  num_attention_heads: z.int().min(1).max(10_000).nullish(),
})
const textSchema = z.union([z.looseObject({ text_config: headSchema }), headSchema])

/**
 * Width of a text model's attention heads, for decoders that do not tell it (onnxruntime-genai's builder); undefined where
 * config.json does not either.
 * @throws ModelFolderError
 */
export async function headWidthOf(folder: string): Promise<number | undefined> {
  const config = await requireModelJson(folder, 'config.json', textSchema)
  const text = ('text_config' in config ? config.text_config : config) as z.output<typeof headSchema>
  if (text.head_dim) return text.head_dim
  const { hidden_size: width, num_attention_heads: heads } = text
  return width && heads && width % heads === 0 ? width / heads : undefined
}
