import type { EncoderShape } from '../turbo/flops.ts'
import type { PruneLevel } from './levels.ts'
import type { SquashRule } from './pictures.ts'

/** Input image of BLIP's graph: `uint8 [height, width, 3]`, RGB. The graph normalises it. */
export type ImageSpec = SquashRule

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
}

/**
 * A captioning model as the engine runs it. One session run goes from
 * `pixels uint8 [B, H, W, 3]`, `prompt int64 [B, P]` (start token, then prompt ids), `limit int64 [B, 1]` (maximum ids
 * behind the prompt, beside the model's own), `r int64 [layers]` and `weight float32 [layers]` to `ids int64 [B, T]` (prompt included; rows that ended are filled with `padId`).
 * With `trace` also `tokens float32 [B, N', D]`, `sizes float32 [B, N']` and `source int64 [B, N]`.
 */
export interface CaptionModel {
  /** Model id of the API. */
  id: string
  /** Folder in the Hugging Face layout. */
  folder: string
  image: ImageSpec
  /** Side of a square patch, pixels. */
  patch: number
  /** Sizes of the vision encoder. */
  encoder: EncoderShape
  /** Maximum ids of a caption without a prompt, start and end token included. */
  maxLength: number
  /** Maximum prompt ids of a caller. */
  maxPromptLength: number
  startId: number
  endId: number
  padId: number
  /** Ascending in tokens merged; level 0 is none. */
  levels: PruneLevel[]
  /** A serialised ONNX model whose weights are external data in the folder's `model.safetensors`. */
  buildGraph(options?: GraphOptions): Uint8Array
}
