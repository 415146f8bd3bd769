import type { SessionOptions } from '../onnx/session.ts'
import type { EncoderShape } from '../turbo/flops.ts'
import type { GenerateMetadata } from './exported/graph.ts'
import type { GenerationSettings } from './generation.ts'
import type { PruneLevel } from './levels.ts'
import type { PictureRule, PictureShape } from './pictures.ts'
import type { EncodedPrompt, PromptRequest } from './prompts.ts'
import type { ScoredTag } from './wd-tagger.ts'

/** Settings that are fixed in a graph; everything else is a run-time input. */
export interface GraphOptions {
  /** Score of a merge. `tome` is `turbo` run with a weight of 0. `none` leaves Turbo out of the graph. */
  mode?: 'turbo' | 'attention' | 'random' | 'none'
  /** Blocks with fewer input tokens do not merge; default 40. */
  threshold?: number
  /** Adds the outputs `tokens`, `sizes` and `source`. */
  trace?: boolean
  /** False leaves the text decoder out: `tokens` is the only output. */
  decoder?: boolean
  /** Computes in float16, inputs and outputs unchanged. Default: float32. */
  float16?: boolean
  /** Uses the kernels that are fastest on a GPU, and none that waits for the host. */
  gpu?: boolean
  /**
   * Tokens to merge in each layer, `[layers]`, fixed in the graph: no branches, all shapes known. The input `r` stays
   * and is ignored.
   */
  r?: number[]
  /** Images of every batch, fixed in the graph. Default: any number. */
  batch?: number
}

/** Graph of a session, with its weights as external data in files of `folder`. */
export interface SessionGraph {
  /** A serialised ONNX model. */
  graph: Uint8Array
  folder: string
  /** Is opened when it is first needed: some settings alone need it, and it has weights of its own in memory. */
  onDemand?: boolean
}

/** Graphs of a model's sessions, by the name that its runner knows them by. */
export type SessionGraphs = Readonly<Record<string, SessionGraph>>

/** How the sessions of a self-test are opened. */
export interface SelfTestOptions {
  graph?: GraphOptions
  session?: SessionOptions
}

/**
 * How a device runs the sessions of a model; a copy of it goes to the device's thread.
 */
export type RunnerPlan = CaptionerPlan | VisionLanguagePlan | EncoderDecoderPlan | TaggerPlan

/** Whether the prompts of one batch have to be equally long, or shorter ones are padded. */
export type PromptLengths = 'equal' | 'padded'

/**
 * Session `vision` from `pixels uint8 [N, ...unit]`, with `r int64 [layers]`, `weight float32 [layers]` and `grid int64 [n, 3]`
 * where it has them, to features `float32`: the rows of all pictures, one behind the other. `trace` is as of a captioner, `grid`
 * has 1, rows and columns of patches of each picture.
 */
export interface VisionPlan {
  /** Shape of a picture, tile or patch. */
  unit: readonly number[]
  /** Name of the output that is read. */
  output: string
}

/** Session `vision`, then a session `generate` of `decoderGraph`. */
export interface VisionLanguagePlan {
  kind: 'vision-language'
  lengths: PromptLengths
  vision: VisionPlan
  generate: GenerateMetadata
}

/** Session `vision`, then a session `generate` of `encoderGraph`; with beams the files as sessions of their own (`beamGraphs`). */
export interface EncoderDecoderPlan {
  kind: 'encoder-decoder'
  lengths: PromptLengths
  vision: VisionPlan
  generate: GenerateMetadata
  /** First ids of captions: the start id, then one that is forced. */
  startIds: number[]
  /** Id that a caption ends with that reaches its most ids. */
  forcedEndId?: number
}

/** Session `vision` whose output `float32 [N, tags]` are scores from 0 to 1. */
export interface TaggerPlan {
  kind: 'tagger'
  lengths: 'equal'
  vision: VisionPlan
}

/**
 * One session `caption` from `pixels uint8 [B, H, W, 3]`, `prompt int64 [B, P]`, `limit int64 [B, 1]` (maximum ids behind
 * the prompt, beside the model's own), `r int64 [layers]` and `weight float32 [layers]` to `ids int64 [B, T]` (prompt
 * included; rows that ended are padded). With `trace` also `tokens float32 [B, N', D]`, `sizes float32 [B, N']` and
 * `source int64 [B, N]`.
 */
export interface CaptionerPlan {
  kind: 'captioner'
  lengths: PromptLengths
  height: number
  width: number
  endId: number
  /**
   * Where there are sessions for rows that the graph's own loop cannot make, with beams or guards: `encoder` from pixels to
   * what `decoder`, one step, reads of the image in every step. Maximum ids of prompt and caption, or of the caption alone.
   */
  stepwise?: { maxLength: number; maxNewTokens?: number | undefined }
}

/** What a model does with text: what it says, the one of its tasks that it names, or nothing but to continue a beginning. */
export type FollowedText = 'instructions' | 'tasks' | 'none'

/** A captioning model as the engine runs it, whatever its family. */
export interface CaptionModel {
  /** Model id of the API. */
  id: string
  /** Folder in the Hugging Face layout. */
  folder: string
  /** As the `model_type` of its configuration, e.g. `blip`. */
  family: string
  picture: PictureRule
  /** Side of the square patches that are its image tokens, pixels; absent where tokens are no such patches, or not known. */
  patch?: number
  /** Sizes of the vision encoder, with the tokens of one picture or tile. */
  encoder: EncoderShape
  /** Ascending in tokens merged; level 0 is none, and the only one of a model without a place for Turbo. */
  levels: PruneLevel[]
  /** Why its encoder has no place for Turbo. */
  unpruned?: string
  /** False: rows of a batch depend on each other, so that a caption is not the same in every batch. Default: true. */
  batchInvariant?: boolean
  follows: FollowedText
  /** Names of its tasks, and of those that read a text beside. */
  tasks?: readonly string[]
  textTasks?: readonly string[]
  /** Maximum pictures of one prompt. */
  maxPictures: number
  /** Ids of a prompt that a picture takes, of models that read both as one. */
  imageRows?(shape: PictureShape): number
  /** Ids, of the caller's text and pictures and of what is around them. @throws PromptError */
  encode(request: PromptRequest): EncodedPrompt
  /** Text of ids, without special ones. */
  decode(ids: number[]): string
  /** Of a tagger: what its scores say. */
  describe?(scores: Float32Array): { caption: string; tags: readonly ScoredTag[] }
  /** Ids of which each ends an answer. */
  endIds: readonly number[]
  /** Settings where a caller has none. */
  generation: GenerationSettings
  /** Maximum ids of an answer; of a model that reads prompt and answer as one, of both. */
  maxTokens: number
  /** Settings that callers can change. */
  honours: readonly (keyof GenerationSettings)[]
  runner: RunnerPlan
  /** Type of the weights in its files, which is not changed; absent where graphs compute in either. */
  dtype?: string
  /** Files whose identity is that of the model: its weights, and what says how they are used. */
  weightFiles: readonly string[]
  buildSessions(options?: GraphOptions): Promise<SessionGraphs>
  /**
   * Compares its sessions with its own files run as they are; absent where graphs are not made of exported files.
   * @throws ModelFolderError for what differs
   */
  selfTest?(options: SelfTestOptions): Promise<void>
}

/** Tokens of pictures that enter and leave the vision encoder at a level. */
export function pictureTokens(
  { encoder, levels }: Pick<CaptionModel, 'encoder' | 'levels'>,
  pictures: readonly PictureShape[],
  level: number,
): { tokensIn: number; tokensOut: number } {
  const count = pictures.reduce((sum, picture) => sum + picture.count, 0)
  return { tokensIn: count * encoder.tokens, tokensOut: count * levels[level]!.tokensOut }
}
