import { tokenCounts } from './schedule.ts'

/** Sizes of a vision transformer. */
export interface EncoderShape {
  /** Tokens that enter, CLS included. */
  tokens: number
  layers: number
  width: number
  /** Width of the hidden layer of the MLP. */
  mlpWidth: number
  heads: number
}

/**
 * FLOPs (2 per multiply-add) of the encoder's matrix products for one image: linear layers, attention, and the
 * matching of tokens. The patch embedding, which no schedule changes, is left out.
 *
 * @param r image tokens to merge in each layer
 */
export function encoderFlops(
  { tokens, width, mlpWidth, heads }: EncoderShape,
  r: number[],
  threshold?: number,
): number {
  const counts = tokenCounts(tokens, r, threshold)
  return r.reduce((sum, _, layer) => {
    const entering = counts[layer]!
    const leaving = counts[layer + 1]!
    const attention = 2 * entering * 4 * width * width + 4 * entering * entering * width
    const matching =
      leaving < entering ? (2 * Math.ceil(entering / 2) * Math.floor(entering / 2) * width) / heads : 0
    return sum + attention + matching + 2 * leaving * 2 * width * mlpWidth
  }, 0)
}

/** FLOPs of the encoder with this schedule over those without pruning, 0 to 1. */
export function flopShare(encoder: EncoderShape, r: number[], threshold?: number): number {
  return (
    encoderFlops(encoder, r, threshold) /
    encoderFlops(
      encoder,
      r.map(() => 0),
    )
  )
}
