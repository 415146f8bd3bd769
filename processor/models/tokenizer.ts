import { join } from 'node:path'
import { Tokenizer } from '@huggingface/tokenizers'
import { z } from 'zod'
import { ModelFolderError } from '../onnx/weights.ts'
import { readModelJson, readModelText } from './model-file.ts'
import { shieldMark, shieldOf } from './text/special-tokens.ts'
import { wordPieceTokenizer } from './word-piece.ts'

/** Tokenizer of a captioning model. */
export interface CaptionTokenizer {
  /** Encodes a caller's text, without start and end tokens. Special tokens in it are text like any other. */
  encodePrompt(text: string): number[]
  /** Encodes a template's text, in which special tokens count; callers' texts in it have to be shielded. */
  encodeTemplate(text: string): number[]
  /** Callers' texts, in the order in which a template has them, so that no special token is in them nor made of them. */
  shield(texts: readonly string[]): string[]
  /** Ids that there can be: one more than the largest. */
  size: number
  /** Tokens that are in texts as they are, special ones among them. */
  addedTokens: readonly string[]
  /** Id of a token; undefined for one that there is not. */
  idOf(token: string): number | undefined
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
  const added = [...tokenizer.get_added_tokens_decoder().values()]
  const shield = shieldOf(added)
  const encode = (text: string) => (text ? tokenizer.encode(text, { add_special_tokens: false }).ids : [])
  const encodeTemplate = (text: string) => text.split(shieldMark).flatMap(encode)
  return {
    encodePrompt: (text) => shield([text]).flatMap(encodeTemplate),
    encodeTemplate,
    shield,
    addedTokens: added.map(({ content }) => content),
    size: sizeOf(tokenizer),
    idOf: (token) => tokenizer.token_to_id(token),
    decode: (ids) => (ids.length === 0 ? '' : tokenizer.decode(ids, { skip_special_tokens: true })),
  }
}

function sizeOf(tokenizer: Tokenizer): number {
  let size = 0
  for (const id of tokenizer.get_vocab().values()) size = Math.max(size, id + 1)
  for (const id of tokenizer.get_added_tokens_decoder().keys()) size = Math.max(size, id + 1)
  return size
}

function build(folder: string, tokenizer: object, config: object): Tokenizer {
  try {
    const built = new Tokenizer(tokenizer, config)
    // Some parts are read when they are needed.
    const { ids } = built.encode('A picture, 1.', { add_special_tokens: false })
    if (ids.length === 0 || !ids.every((id: number) => Number.isInteger(id) && id >= 0))
      throw new Error('It encodes no text.')
    return built
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
