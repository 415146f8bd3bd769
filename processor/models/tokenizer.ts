import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { readModelJson, readModelText } from './model-file.ts'
import { wordPieceTokenizer } from './word-piece.ts'

/** Tokenizer of a captioning model. */
export interface CaptionTokenizer {
  /** Encodes a prompt, without start and end tokens. */
  encodePrompt(text: string): number[]
  /** Decodes a caption without special and unknown ids. */
  decode(ids: number[]): string
}

const tokenizerSchema = z.looseObject({ model: z.looseObject({ type: z.string() }) })
const configSchema = z.looseObject({ do_lower_case: z.boolean().nullish() })

/**
 * Loads tokenizer.json, with the optional tokenizer_config.json, or else BERT word pieces from vocab.txt.
 * @throws ModelFolderError when both are missing, or a file is malformed
 */
export async function loadTokenizer(folder: string): Promise<CaptionTokenizer> {
  const config = (await readModelJson(folder, 'tokenizer_config.json', configSchema)) ?? {}
  const tokenizer =
    (await readModelJson(folder, 'tokenizer.json', tokenizerSchema)) ?? (await fromVocabulary(folder, config))
  return adapt(build(folder, tokenizer, config))
}

function adapt(tokenizer: Tokenizer): CaptionTokenizer {
  return {
    encodePrompt: (text) => tokenizer.encode(text, { add_special_tokens: false }).ids,
    decode: (ids) => (ids.length === 0 ? '' : tokenizer.decode(ids, { skip_special_tokens: true })),
  }
}

function build(folder: string, tokenizer: object, config: object): Tokenizer {
  try {
    return new Tokenizer(tokenizer, config)
  } catch (cause) {
    throw new ModelFolderError(`${join(folder, 'tokenizer.json')} has an unsupported tokenizer type.`, {
      cause,
    })
  }
}

async function fromVocabulary(folder: string, config: z.infer<typeof configSchema>): Promise<object> {
  const text = await readModelText(folder, 'vocab.txt')
  if (text === undefined) {
    throw new ModelFolderError(`${folder} has neither tokenizer.json nor vocab.txt. Pull the model again.`)
  }
  const tokens = text.split(/\r?\n/)
  if (tokens.at(-1) === '') tokens.pop()
  return wordPieceTokenizer(tokens, { lowercase: config.do_lower_case ?? true })
}
