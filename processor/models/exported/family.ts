import type { FollowedText } from '../model.ts'
import type { Normalisation, PictureRule, PictureShape } from '../pictures.ts'
import type { EncodedPrompt, PromptRequest } from '../prompts.ts'

/** What a folder of exported sessions says of its model, beside the graphs: all that a family has of its own. */
export interface ExportedFamily {
  /** As `model_type` of config.json, or `wd-tagger`. */
  family: string
  folder: string
  picture: PictureRule
  normalise: Normalisation
  /** Sessions by what they do; the names of their files without the ending. */
  sessions: FamilySessions
  follows: FollowedText
  /** Names of its tasks, and of those that read a text beside. */
  tasks?: readonly string[]
  textTasks?: readonly string[]
  /** Maximum pictures of one prompt. */
  maxPictures: number
  /** Rows of features that the decoder reads of a picture. */
  imageRows(shape: PictureShape): number
  /** @throws PromptError */
  encode(request: PromptRequest): Promise<EncodedPrompt>
  /** Three positions for each id of a prompt, and the one that follows, of models that have them. Default: 0, 1, 2 ... */
  positions?(prompt: EncodedPrompt, pictures: readonly PictureShape[]): Positions
  /** Text of ids, without special ones. */
  decode(ids: number[]): string
  /** Ids of which each ends an answer, where generation_config.json has none. */
  endIds: readonly number[]
  padId: number
  /** Ids that the tokenizer knows, at most as many as the logits have. */
  vocabulary: number
  /** Maximum ids of a prompt and its answer; of an encoder-decoder, of each. */
  maxContext: number
}

export interface FamilySessions {
  vision: string
  /** Embeddings of ids. */
  embed?: string
  /** Of an encoder-decoder that reads text. */
  encoder?: string
  decoder?: string
}

export interface Positions {
  /** Of time, height and width, `[3][ids]`. */
  positions: [number[], number[], number[]]
  /** Of the first id of the answer. */
  next: number
}
