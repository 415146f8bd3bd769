import type { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Int, Value } from '../onnx/operators.ts'
import type { DataType } from '../onnx/proto.ts'
import { defaultThreshold } from './schedule.ts'

/** Score by which tokens merge; ToMe is `turbo` run with a weight of 0. */
type MergeScore = 'turbo' | 'attention' | 'random'

/** Values that the modules of all layers share, computed once in the outermost graph. */
export interface Places {
  /** Images, `int64 [1]`. */
  batch: Int
  /** 0, 1, ... for the rows of the batch, `int64 [B, 1]`. */
  rows: Int
  /** True for every even token that enters the encoder, `bool [B, ceil(N0 / 2)]`. */
  all: Bool
  /** False in the same shape. */
  none: Bool
  /** `[B, -1]`, to reshape to. */
  listShape: Int
}

/** Adds what `turboMerge` needs in every layer. `x` is the hidden state that enters, `[B, N0, width]`. */
export function sharedPlaces(g: Graph, x: Float, { tokens }: { tokens: number }): Places {
  const batch = g.shape(x, 0, 1)
  const mask = g.concat([batch, g.ints([Math.ceil(tokens / 2)])], 0)
  return {
    batch,
    rows: g.unsqueeze(g.range(g.toScalar(batch)), 1),
    all: g.expand(g.cast(g.ints(1), 'bool'), mask),
    none: g.expand(g.cast(g.ints(0), 'bool'), mask),
    listShape: g.concat([batch, g.ints([-1])], 0),
  }
}

export interface MergeSettings {
  /** From `sharedPlaces`. */
  places: Places
  heads: number
  /** Width of a head. */
  headWidth: number
  /** Factor of the attention logits, usually `headWidth^-0.5`. */
  scale: number
  /** Width of the hidden state. */
  width: number
  /**
   * Tokens at the front that stand for no patch, CLS first: they stay where they are, do not merge, and nothing merges
   * into them. Default 1.
   */
  prefix?: number
  /** Number of the layer; decides the scores of `random`. */
  layer: number
  /** Tokens that enter the encoder, CLS included. */
  tokens: number
  score?: MergeScore
  /** A block that fewer tokens enter does not merge. */
  threshold?: number
  /**
   * Tokens that enter this block and that merge in it, where both are known when the graph is built: then there is no
   * branch, every shape is fixed, and the input `r` is not read.
   */
  fixed?: { entering: number; merging: number }
  /** Uses operators that are fastest on a GPU. */
  gpu?: boolean
}

/** The image tokens between two places of the encoder. */
export interface Tokens {
  /** Hidden state `[B, N, D]`. */
  x: Float
  /** Number of patches that each token stands for, `float32 [B, N, 1]`. */
  sizes: Value<'float32'>
  /** For every token that entered the encoder the index of the token that holds it, `int64 [B, N0]`; traced only. */
  source?: Int
}

/** Inputs and outputs of the block's attention. */
export interface BlockAttention {
  /**
   * Its update of the hidden state, `[B, N, D]`. The module adds it: a branch that passed the hidden state through
   * would have to copy it.
   */
  update: Float
  /** Keys, unscaled, `[B, N, heads * headWidth]`. */
  keys: Float
  /** Their bias, `[heads * headWidth]`, where `keys` come without it: attention itself does not need it. */
  keyBias?: Value<'float32'>
  /** What the semantic values come from. */
  meaning: Meaning
}

/** Queries, that of the CLS token first, `[B, N, heads * headWidth]`, or the values themselves where there is no CLS, `[B, N]`. */
export type Meaning = { queries: Float } | { value: Value<'float32'> }

/**
 * Adds the Turbo module to a graph, between a block's attention, whose update it adds, and its MLP: merges the `r` even
 * tokens of highest score `E = R - weight * v` into their most similar odd tokens. R is the mutual redundancy (the
 * highest cosine to an odd token's key), v the semantic value (attention that CLS pays to the token, mean over heads).
 * Kept even tokens come first, by position, then all odd ones. Nothing changes when r is 0.
 *
 * Source: Ju, Wang et al., "Turbo", ECCV 2024, sections 3.2 and 3.3; the official BLIP code; ToMe for the matching.
 *
 * @param r tokens to merge, `int64 [1]`; capped at `floor((N - 1) / 2)`
 * @param weight of the semantic value, `float32 [1]`
 */
export function turboMerge(
  g: Graph,
  tokens: Tokens,
  attention: BlockAttention,
  r: Int,
  weight: Value<'float32'>,
  settings: MergeSettings,
): Tokens {
  const { width, layer, fixed } = settings
  if (fixed) {
    const same = attended(g, tokens, attention)
    const counts = { n: g.ints([fixed.entering]), r: g.ints([fixed.merging]) }
    return fixed.merging === 0 ? same : mergeTokens(g, same, attention, counts, weight, settings)
  }
  const n = g.shape(tokens.x, 1, 2)
  const merging = mergingCount(g, n, r, settings)
  const write = (body: Graph, result: Tokens) => {
    body.output(body.uniqueName('x'), result.x, ['B', `N${layer}`, width])
    body.output(body.uniqueName('sizes'), result.sizes, ['B', `N${layer}`, 1])
    if (result.source) body.output(body.uniqueName('source'), result.source, ['B', settings.tokens])
  }
  const types: DataType[] = [tokens.x.type, 'float32', ...(tokens.source ? (['int64'] as const) : [])]
  const [x, sizes, source] = g.branch(
    g.equal(merging, g.ints([0])),
    types,
    (same) => write(same, attended(same, tokens, attention)),
    (body) =>
      write(
        body,
        mergeTokens(body, attended(body, tokens, attention), attention, { n, r: merging }, weight, settings),
      ),
  ) as unknown as [Float, Value<'float32'>, Int?]
  return { x, sizes, source }
}

/**
 * Tokens that a block merges, `int64 [1]`: r, at most `floor((N - 1) / 2)` and the even tokens behind the prefix, and
 * none of fewer tokens than the threshold. The limits are looked up: each operator costs a small batch time.
 *
 * @param n tokens that enter the block, `int64 [1]`
 */
export function mergingCount(
  g: Graph,
  n: Int,
  r: Int,
  {
    tokens,
    threshold = defaultThreshold,
    prefix = 1,
  }: Pick<MergeSettings, 'tokens' | 'threshold' | 'prefix'>,
): Int {
  // Beyond two tokens of prefix there are fewer even tokens than floor((N - 1) / 2).
  const protectedOnes = Math.max(1, 2 * Math.ceil(prefix / 2) - 1)
  const limits = Array.from({ length: tokens + 1 }, (_, count) =>
    count < threshold ? 0 : Math.max(0, Math.floor((count - protectedOnes) / 2)),
  )
  return g.min(r, g.gather(g.ints(limits), n))
}

const attended = (g: Graph, tokens: Tokens, { update }: BlockAttention): Tokens => ({
  ...tokens,
  x: g.add(tokens.x, update),
})

function mergeTokens(
  g: Graph,
  tokens: Tokens,
  attention: BlockAttention,
  { n, r }: { n: Int; r: Int },
  weight: Value<'float32'>,
  settings: MergeSettings,
): Tokens {
  const { places, gpu } = settings
  const evenCount = g.sub(n, g.div(n, g.ints([2])))
  const { redundancy, target } = redundancyOf(g, attention, settings)
  const score = scoreOf(g, redundancy, tokens, attention, weight, settings)
  const { merged, kept } = (gpu ? rankBySorting : rankByMask)(g, score, { evenCount, r }, settings)

  const left = g.sub(n, r)
  const two = g.ints([2])
  const spread = (row: Int, count: Int) => g.expand(row, g.concat([places.batch, count], 0))
  const odds = g.slice(g.ints(evenNumbers(settings.tokens).map((even) => even + 1)), 0, 0, g.div(n, two))
  const moves = {
    stay: prefixFirst(g, g.mul(kept, two), spread(odds, g.div(n, two)), settings),
    merge: g.mul(merged, two),
    into: g.add(g.gatherElements(target, merged, 1), g.sub(evenCount, r)),
    left,
  }
  const source = tokens.source && follow(g, tokens.source, moves, spread(g.range(g.toScalar(left)), left))
  return { ...moveTokens(g, tokens, moves, n, settings), source }
}

/** Kept even tokens and then all odd ones, but the odd tokens of the prefix right behind its even ones. */
function prefixFirst(g: Graph, kept: Int, odds: Int, { prefix = 1 }: MergeSettings): Int {
  if (prefix < 2) return g.concat([kept, odds], 1)
  const [evenPrefix, rest] = g.splitAt(kept, Math.ceil(prefix / 2), 1)
  const [oddPrefix, others] = g.splitAt(odds, Math.floor(prefix / 2), 1)
  const front = g.smallest(g.concat([evenPrefix, oddPrefix], 1), g.ints([prefix]))
  return g.concat([front, rest, others], 1)
}

/** Destinations of tokens. */
interface Moves {
  /** Tokens that stay, in their new order: kept even ones by position, then all odd ones, `int64 [B, left]`. */
  stay: Int
  /** Tokens that merge, `int64 [B, r]`, and the new places that they merge into. */
  merge: Int
  into: Int
  /** Tokens that are left, `int64 [1]`. */
  left: Int
}

/** Even tokens that merge (`[B, r]`, in any order) and that stay (`[B, A - r]`, ascending), by their even place. */
interface Ranking {
  merged: Int
  kept: Int
}

/** On a CPU: a mask, and the places where it is true. */
function rankByMask(
  g: Graph,
  score: Value<'float32'>,
  { evenCount, r }: { evenCount: Int; r: Int },
  { places, tokens, prefix = 1 }: MergeSettings,
): Ranking {
  // CLS is the first even token: it is no candidate, so it never merges away.
  const first = Math.ceil(prefix / 2)
  const merged = g.add(g.topK(g.slice(score, 1, first), r).indices, g.ints(first))
  const mask = g.scatterElements(
    g.slice(places.all, 1, 0, evenCount),
    merged,
    g.slice(places.none, 1, 0, r),
    1,
  )
  const numbers = g.ints(Array.from({ length: Math.ceil(tokens / 2) }, (_, place) => place))
  const spread = g.expand(g.slice(numbers, 0, 0, evenCount), g.concat([places.batch, evenCount], 0))
  return { merged, kept: g.reshape(g.compress(spread, mask), places.listShape) }
}

/** On a GPU: sorting, for nothing there may have a size that depends on data, or the host has to wait for it. */
function rankBySorting(
  g: Graph,
  score: Value<'float32'>,
  { evenCount, r }: { evenCount: Int; r: Int },
  { tokens, prefix = 1 }: MergeSettings,
): Ranking {
  // CLS is the first even token: it ranks last, so it never merges away.
  const last = evenNumbers(tokens).map((even) => (even < prefix ? -(2 ** 60) : 0))
  const candidates = g.add(score, g.slice(g.floats(last), 0, 0, evenCount))
  const ranked = g.topK(candidates, evenCount, { sorted: true }).indices
  const [merged, rest] = g.splitAt(ranked, r, 1)
  return { merged, kept: g.smallest(rest, g.sub(evenCount, r)) }
}

/** Highest cosine of each even token's key to an odd one's, and which: both `[B, A]`. */
function redundancyOf(g: Graph, { keys, keyBias }: BlockAttention, settings: MergeSettings) {
  const { heads, headWidth, gpu } = settings
  // On a GPU a mean over an axis in the middle is slow, a product is not.
  const meanOfKeys = gpu
    ? g.matmul(keys, g.scalars(headMean(heads, headWidth), [heads * headWidth, headWidth], keys))
    : (g.mean(g.reshape(keys, [0, 0, heads, headWidth]), 2) as Float)
  const mean = g.cast(meanOfKeys, 'float32')
  const bias = keyBias && g.mean(g.reshape(keyBias, [heads, headWidth]), 0)
  // Of length 1: the root mean square of a vector is its length over the root of its width.
  const unit = g.floats(new Array<number>(headWidth).fill(headWidth ** -0.5))
  const metric = g.rmsNorm(bias ? g.add(mean, bias) : mean, unit)
  const similarity = shunPrefix(
    g,
    g.matmul(even(g, metric), g.transpose(odd(g, metric), [0, 2, 1])),
    settings,
  )
  if (gpu) return largestByPooling(g, similarity, settings)
  return { redundancy: g.max(similarity, -1), target: g.argmax(similarity, -1) }
}

/** The odd tokens of the prefix are nobody's most similar token. */
function shunPrefix(g: Graph, similarity: Value<'float32'>, { prefix = 1, tokens }: MergeSettings) {
  if (prefix < 2) return similarity
  const shunned = evenNumbers(tokens - 1).map((even) => (even + 1 < prefix ? -4 : 0))
  return g.add(similarity, g.slice(g.floats(shunned), 0, 0, g.shape(similarity, 2, 3)))
}

/** The same as a maximum and its index over the last axis: one pass on a GPU, where those two are slow. */
function largestByPooling(g: Graph, similarity: Value<'float32'>, { tokens, fixed }: MergeSettings) {
  const columns = Math.floor((fixed?.entering ?? tokens) / 2)
  const missing = g.sub(g.ints([columns]), g.shape(similarity, 2, 3))
  // Cosines are never below -1.
  const padded = fixed ? similarity : g.padEnd(similarity, 3, missing, g.floats(-2))
  const { values, indices } = g.maxPool(padded, columns)
  const list = (x: Value) => g.reshape(x, [0, -1])
  return {
    redundancy: list(values) as Value<'float32'>,
    target: g.mod(list(indices) as Int, g.ints(columns)),
  }
}

/** `[heads * headWidth, headWidth]`: takes the mean over the heads. */
function headMean(heads: number, headWidth: number): number[] {
  return Array.from({ length: heads * headWidth * headWidth }, (_, i) =>
    Math.floor(i / headWidth) % headWidth === i % headWidth ? 1 / heads : 0,
  )
}

/** E of every even token, `[B, A]`. */
function scoreOf(
  g: Graph,
  redundancy: Value<'float32'>,
  tokens: Tokens,
  attention: BlockAttention,
  weight: Value<'float32'>,
  settings: MergeSettings,
): Value<'float32'> {
  if (settings.score === 'random') return randomScore(g, redundancy, settings)
  const { meaning } = attention
  const values =
    'value' in meaning
      ? meaning.value
      : semanticValue(g, attention.keys, g.slice(meaning.queries, 1, 0, 1), tokens.sizes, settings)
  const value = even(g, values)
  if (settings.score === 'attention') return g.sub(g.floats(0), value)
  return g.sub(redundancy, g.mul(weight, value))
}

/** Attention that CLS pays to each token, mean over heads, with proportional attention: `[B, N]`. */
function semanticValue(
  g: Graph,
  keys: Float,
  clsQuery: Float,
  sizes: Value<'float32'>,
  { heads, headWidth, scale, gpu }: MergeSettings,
): Value<'float32'> {
  // The query spread over a block-diagonal matrix gives the logits of all heads in one product, keys untouched.
  const spread = g.mul(
    clsQuery,
    g.scalars(headBlocks(heads, headWidth, scale), [heads, heads * headWidth], clsQuery),
  )
  const perHead = g.matmul(spread as Float, g.transpose(keys, [0, 2, 1]))
  const logits = g.add(g.cast(perHead, 'float32'), g.transpose(g.log(sizes), [0, 2, 1]))
  const attention = g.softmax(logits)
  if (!gpu) return g.mean(attention, 1)
  const mean = g.matmul(g.floats(new Array<number>(heads).fill(1 / heads), [1, heads]), attention)
  return g.reshape(mean, [0, -1])
}

/** `[heads, heads * headWidth]`: `scale` where the column belongs to the row's head, else 0. */
function headBlocks(heads: number, headWidth: number, scale: number): number[] {
  return Array.from({ length: heads * headWidth * heads }, (_, i) =>
    Math.floor(i / (heads * headWidth)) === Math.floor((i % (heads * headWidth)) / headWidth) ? scale : 0,
  )
}

function randomScore(g: Graph, like: Value<'float32'>, { tokens, layer }: MergeSettings) {
  const scores = g.floats(randomScores(layer, Math.ceil(tokens / 2)))
  const used = g.slice(scores, 0, 0, g.shape(like, 1, 2))
  return g.expand(used, g.shape(like))
}

/** The fixed scores of mode `random` for the even tokens of a layer, 0 to 1. */
export function randomScores(layer: number, count: number): number[] {
  let state = (layer + 1) * 0x9e3779b9
  return Array.from({ length: count }, () => {
    // mulberry32
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return Math.fround(((t ^ (t >>> 14)) >>> 8) / 2 ** 24)
  })
}

const evenNumbers = (tokens: number) => Array.from({ length: Math.ceil(tokens / 2) }, (_, i) => 2 * i)

/**
 * Size-weighted means. Each token's share of the new size is worked out on the small tensors, so that the hidden state
 * is read and written as seldom as can be; whole rows of the flattened batch are moved, which is cheap everywhere.
 */
function moveTokens(
  g: Graph,
  { x, sizes }: Tokens,
  { stay, merge, into, left }: Moves,
  n: Int,
  { width, places }: MergeSettings,
): { x: Float; sizes: Value<'float32'> } {
  const firstRow = g.mul(places.rows, n)
  const rows = <V extends Float>(tokens: V, columns: number, which: Int) =>
    g.gather(g.reshape(tokens, [-1, columns]), g.add(firstRow, which))
  const staySizes = rows(sizes, 1, stay)
  const mergeSizes = rows(sizes, 1, merge)
  const onto = g.oneHot(into, left, 1)
  const newSizes = g.add(staySizes, g.matmul(onto, mergeSizes))
  const shares = g.div(g.mul(onto, g.transpose(mergeSizes, [0, 2, 1])), newSizes)
  const inTypeOfX = (value: Value<'float32'>) => g.cast(value, x.type) as Float

  const own = g.mul(rows(x, width, stay) as Float, inTypeOfX(g.div(staySizes, newSizes)))
  const brought = g.matmul(inTypeOfX(shares), rows(x, width, merge) as Float)
  return { x: g.add(own, brought), sizes: newSizes }
}

/** `source` after this merge: where the token that held a patch went. */
function follow(g: Graph, source: Int, { stay, merge, into }: Moves, newPlaces: Int): Int {
  const old = g.concat([stay, merge], 1)
  const destination = g.scatterElements(old, old, g.concat([newPlaces, into], 1), 1)
  return g.gatherElements(destination, source, 1)
}

const even = <V extends Value>(g: Graph, x: V): V => g.slice(x, 1, 0, undefined, 2)
const odd = <V extends Value>(g: Graph, x: V): V => g.slice(x, 1, 1, undefined, 2)
