import type { Int, Value } from '../../onnx/operators.ts'

/** Tokens between two merges: what there is to know of them wherever they go. */
export interface Stage {
  /** Patches that each stands for, `float32 [B, N, 1]`. */
  sizes: Value<'float32'>
  /** For every token of the probe's run the one that holds it, `int64 [B, tokens]`; only where they are unmerged. */
  source?: Int
  /** Tokens in the probe's run. */
  tokens: number
  /** Tokens at the front that never merge. */
  prefix: number
}

/** A tensor that has tokens along an axis. */
export interface Followed {
  stage: Stage
  axis: number
  /** The axis is that of images and tokens together, `[B * N, D]`. */
  flat: boolean
  /** They are probabilities over the tokens, with their sizes taken in. */
  probabilities?: boolean
}

/** An operator reads tokens in a way that merged ones do not allow. */
export class TokenReader extends Error {
  override readonly name = 'TokenReader'
}
