import { join } from 'node:path'
import { z } from 'zod'
import { ModelFolderError } from '../../onnx/weights.ts'
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
