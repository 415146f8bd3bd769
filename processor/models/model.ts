import type { EncoderShape } from '../turbo/flops.ts'
import type { PruneLevel } from './levels.ts'

/** Kernels that a Hugging Face `preprocessor_config.json` can name. */
export type Resample = 'nearest' | 'lanczos3' | 'bilinear' | 'bicubic'

/** What the graph wants to see: `uint8 [height, width, 3]`, RGB. Normalisation happens inside the graph. */
export interface ImageSpec {
  height: number
  width: number
  /** Kernel with which an image of another size is brought to this one. */
  resample: Resample
}

/** Settings that are fixed when a graph is built; everything else is an input at run time. */
export interface GraphOptions {
  /** Score of a merge. `tome` is `turbo` run with a weight of 0. `none` leaves Turbo out of the graph. */
  mode?: 'turbo' | 'attention' | 'random' | 'none'
  /** Blocks that fewer tokens enter do not merge; default 40. */
  threshold?: number
  /** Adds the outputs `tokens`, `sizes` and `source`. */
  trace?: boolean
  /** False leaves the text decoder out: `tokens` is the only output. */
  decoder?: boolean
  /** Computes in float16, inputs and outputs unchanged. Default: float32. */
  float16?: boolean
  /** Builds for a GPU: the kernels that are fastest there, nothing that has to wait for the host. */
  gpu?: boolean
  /**
   * Tokens to merge in each layer, `[layers]`, fixed in the graph: no branches, every shape known. The input `r` is
   * there all the same and is not read.
   */
  r?: number[]
}

/**
 * A captioning model as the engine runs it. One session run goes from
 * `pixels uint8 [B, H, W, 3]`, `prompt int64 [B, P]` (start token, then prompt ids), `r int64 [layers]` and
 * `weight float32 [layers]` to `ids int64 [B, T]` (prompt included; rows that ended are filled with `padId`).
 * With `trace` also `tokens float32 [B, N', D]`, `sizes float32 [B, N']` and `source int64 [B, N]`.
 */
export interface CaptionModel {
  /** What callers name it by. */
  id: string
  /** The folder in the Hugging Face layout. */
  folder: string
  image: ImageSpec
  /** Side of a square patch, pixels. */
  patch: number
  /** Sizes of the vision encoder. */
  encoder: EncoderShape
  /** Ids per caption at most when there is no prompt, start and end token included. */
  maxLength: number
  /** Prompt ids that a caller may add at most. */
  maxPromptLength: number
  startId: number
  endId: number
  padId: number
  /** Ascending in tokens merged; level 0 is none. */
  levels: PruneLevel[]
  /** A serialised ONNX model whose weights are external data in the folder's `model.safetensors`. */
  buildGraph(options?: GraphOptions): Uint8Array
}
