/** Orders in which tokens merge. `tome` is `turbo` with a semantic weight of 0. */
export const modes = ['turbo', 'tome', 'attention', 'random'] as const
export type TurboMode = (typeof modes)[number]

/** Run-time inputs of a Turbo graph for one batch. */
export interface Schedule {
  /** Image tokens to merge in each layer, `int64[layers]`. */
  r: number[]
  /** Weight of the semantic value in each layer, `30 * alpha * beta^|gamma - l|`, `float32[layers]`. */
  weight: number[]
}

export interface SemanticSettings {
  /** Default 5, as in the paper. */
  alpha?: number
  /** Default 1. */
  beta?: number
  /** Default 0. */
  gamma?: number
}

/** Blocks that fewer tokens than this enter do not merge (official default for captioning). */
export const defaultThreshold = 40

/**
 * The semantic weight of every layer, `30 * alpha * beta^|gamma - l|`. `l` counts, from 0, only layers whose r is
 * above 0, as the official code does; the other layers get 0.
 */
export function semanticWeights(r: number[], settings: SemanticSettings = {}): number[] {
  const { alpha = 5, beta = 1, gamma = 0 } = settings
  let l = 0
  return r.map((value) => (value > 0 ? 30 * alpha * beta ** Math.abs(gamma - l++) : 0))
}

/** One number for all layers, or a list padded with zeros. @throws RangeError when the list is longer than `layers`. */
export function perLayer(r: number | number[], layers: number): number[] {
  if (typeof r === 'number') return new Array<number>(layers).fill(r)
  if (r.length > layers)
    throw new RangeError(`r has ${r.length} entries, but the encoder has ${layers} layers`)
  return [...r, ...new Array<number>(layers - r.length).fill(0)]
}

/**
 * Tokens (CLS included) that enter each layer and, last, that leave the encoder: `layers + 1` numbers. A layer
 * merges `min(r, floor((N - 1) / 2))` of its N tokens, and none when `N < threshold`.
 */
export function tokenCounts(tokens: number, r: number[], threshold = defaultThreshold): number[] {
  const counts = [tokens]
  let n = tokens
  for (const value of r) {
    if (n >= threshold) n -= Math.min(value, Math.floor((n - 1) / 2))
    counts.push(n)
  }
  return counts
}

/** Share of the image tokens (CLS not counted) that are merged away after the last layer, 0 to 1. */
export function pruneRatio(tokensIn: number, tokensOut: number): number {
  return (tokensIn - tokensOut) / Math.max(1, tokensIn - 1)
}
