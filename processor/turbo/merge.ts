import type { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Int, Value } from '../onnx/operators.ts'
import type { DataType } from '../onnx/proto.ts'
import { defaultThreshold } from './schedule.ts'

/** Score by which tokens merge; ToMe is `turbo` run with a weight of 0. */
type MergeScore = 'turbo' | 'attention' | 'random'

/** What the modules of all layers share, computed once in the outermost graph. */
export interface Places {
  /** 0, 1, ... for the rows of the batch, `int64 [B, 1]`. */
  rows: Int
  /** True for every even token that enters the encoder, `bool [B, ceil(N0 / 2)]`. */
  all: Bool
  /** False in the same shape. */
  none: Bool
  /** `[B, -1, width]` and `[B, -1, 1]`, to reshape to. */
  tokenShape: Int
  sizeShape: Int
}

/** Adds what `turboMerge` needs in every layer. `x` is the hidden state that enters, `[B, N0, width]`. */
export function sharedPlaces(
  g: Graph,
  x: Float,
  { tokens, width }: { tokens: number; width: number },
): Places {
  const batch = g.shape(x, 0, 1)
  const mask = g.concat([batch, g.ints([Math.ceil(tokens / 2)])], 0)
  return {
    rows: g.unsqueeze(g.range(g.toScalar(batch)), 1),
    all: g.expand(g.cast(g.ints(1), 'bool'), mask),
    none: g.expand(g.cast(g.ints(0), 'bool'), mask),
    tokenShape: g.concat([batch, g.ints([-1, width])], 0),
    sizeShape: g.concat([batch, g.ints([-1, 1])], 0),
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
  /** Number of the layer; decides the scores of `random`. */
  layer: number
  /** Tokens that enter the encoder, CLS included. */
  tokens: number
  score?: MergeScore
  /** A block that fewer tokens enter does not merge. */
  threshold?: number
}

/** The image tokens between two places of the encoder. */
export interface Tokens {
  /** Hidden state `[B, N, D]`. */
  x: Float
  /** How many patches each token stands for, `float32 [B, N, 1]`. */
  sizes: Value<'float32'>
  /** For every token that entered the encoder the index of the token that holds it, `int64 [B, N0]`; traced only. */
  source?: Int
}

/** What the block's attention saw and gave. */
export interface BlockAttention {
  /**
   * What it adds to the hidden state, `[B, N, D]`. The module does the sum: a branch that passed the hidden state
   * through would have to copy it.
   */
  update: Float
  /** Keys with their bias, unscaled, `[B, N, heads * headWidth]`. */
  keys: Float
  /** Query of the CLS token, `[B, 1, heads * headWidth]`. */
  clsQuery: Float
}

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
  const { threshold = defaultThreshold, width, layer } = settings
  const n = g.shape(tokens.x, 1, 2)
  const cap = g.div(g.sub(n, g.ints([1])), g.ints([2]))
  const merging = g.where(g.less(n, g.ints([threshold])), g.ints([0]), g.min(r, cap))
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
  const { places } = settings
  const oddCount = g.div(n, g.ints([2]))
  const evenCount = g.sub(n, oddCount)
  const { redundancy, target } = redundancyOf(g, attention.keys, settings)
  const score = scoreOf(g, redundancy, tokens, attention, weight, settings)
  // CLS is the first even token: it is no candidate, so it never merges away.
  const merged = g.add(g.topIndices(g.slice(score, 1, 1), r), g.ints(1))
  const kept = g.scatterElements(
    g.slice(places.all, 1, 0, evenCount),
    merged,
    g.slice(places.none, 1, 0, r),
    1,
  )
  const onto = g.oneHot(g.gatherElements(target, merged, 1), oddCount, 1)
  // Whole rows of the flattened batch are moved: much cheaper than gathering element by element.
  const firstRow = g.mul(places.rows, n)
  const evens = g.slice(g.ints(evenNumbers(settings.tokens)), 0, 0, evenCount)
  const keptRows = g.compress(g.add(firstRow, evens), kept)
  const mergedRows = g.add(firstRow, g.mul(merged, g.ints(2)))
  return {
    ...mergeRows(g, tokens, { keptRows, mergedRows, onto }, settings),
    source: tokens.source && follow(g, tokens.source, { kept, target, evenCount, r }),
  }
}

/** Highest cosine of each even token's key to an odd one's, and which: both `[B, A]`. */
function redundancyOf(g: Graph, keys: Float, { heads, headWidth }: MergeSettings) {
  const perHead = g.reshape(g.cast(keys, 'float32'), [0, 0, heads, headWidth])
  const mean = g.mean(perHead, 2)
  const metric = g.div(mean, g.norm(mean, -1, true))
  const similarity = g.matmul(even(g, metric), g.transpose(odd(g, metric), [0, 2, 1]))
  return { redundancy: g.max(similarity, -1), target: g.argmax(similarity, -1) }
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
  const value = even(g, semanticValue(g, attention, tokens.sizes, settings))
  if (settings.score === 'attention') return g.sub(g.floats(0), value)
  return g.sub(redundancy, g.mul(weight, value))
}

/** Attention that CLS pays to each token, mean over heads, with proportional attention: `[B, N]`. */
function semanticValue(
  g: Graph,
  { keys, clsQuery }: BlockAttention,
  sizes: Value<'float32'>,
  { heads, headWidth, scale }: MergeSettings,
): Value<'float32'> {
  // The query spread over a block-diagonal matrix gives the logits of all heads in one product, keys untouched.
  const spread = g.mul(
    g.transpose(g.cast(clsQuery, 'float32'), [0, 2, 1]),
    g.floats(headBlocks(heads, headWidth, scale), [heads * headWidth, heads]),
  )
  const logits = g.add(g.matmul(g.cast(keys, 'float32'), spread), g.log(sizes))
  return g.mean(g.softmax(g.transpose(logits, [0, 2, 1])), 1)
}

/** `[heads * headWidth, heads]`: `scale` where the row belongs to the column's head, else 0. */
function headBlocks(heads: number, headWidth: number, scale: number): number[] {
  return Array.from({ length: heads * headWidth * heads }, (_, i) =>
    Math.floor(i / heads / headWidth) === i % heads ? scale : 0,
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

/** Which rows of the flattened batch go where. */
interface Moves {
  /** Even tokens that stay, by position, image after image. */
  keptRows: Int
  /** Even tokens that merge, `[B, r]`. */
  mergedRows: Int
  /** 1 where a merged token goes to an odd one, `float32 [B, odd, r]`. */
  onto: Value<'float32'>
}

/** Size-weighted means: kept even tokens, then all odd tokens with what merged into them. */
function mergeRows(
  g: Graph,
  { x, sizes }: Tokens,
  { keptRows, mergedRows, onto }: Moves,
  { width, places }: MergeSettings,
): { x: Float; sizes: Value<'float32'> } {
  const move = <V extends Float>(tokens: V, columns: number, shape: Int) => {
    const flat = g.reshape(tokens, [-1, columns])
    return {
      kept: g.reshape(g.gather(flat, keptRows), shape),
      merged: g.gather(flat, mergedRows),
      odd: odd(g, tokens),
    }
  }
  const size = move(sizes, 1, places.sizeShape)
  const token = move(x, width, places.tokenShape)
  const newSizes = g.add(size.odd, g.matmul(onto, size.merged))
  const sum = g.add(
    g.mul(g.cast(token.odd, 'float32'), size.odd),
    g.matmul(onto, g.mul(g.cast(token.merged, 'float32'), size.merged)),
  )
  const means = g.cast(g.div(sum, newSizes), x.type) as Float
  return {
    x: g.concat([token.kept, means], 1),
    sizes: g.concat([size.kept, newSizes], 1),
  }
}

/** `source` after this merge: where the token that held a patch went. */
function follow(
  g: Graph,
  source: Int,
  { kept, target, evenCount, r }: { kept: Bool; target: Int; evenCount: Int; r: Int },
): Int {
  const keptCount = g.sub(evenCount, r)
  const rank = g.sub(g.cumulativeSum(g.cast(kept, 'int64'), 1), g.ints(1))
  const evenTo = g.where(kept, rank, g.add(target, keptCount))
  // As many odd tokens as even ones; when N is odd the last of them does not exist and nothing asks for it.
  const oddTo = g.expand(g.add(g.range(g.toScalar(evenCount)), keptCount), g.shape(kept))
  const place = g.range(g.toScalar(g.mul(evenCount, g.ints([2]))))
  const half = g.div(place, g.ints(2))
  const parity = g.sub(place, g.mul(half, g.ints(2)))
  const interleaved = g.gather(g.concat([evenTo, oddTo], 1), g.add(half, g.mul(parity, evenCount)), 1)
  return g.gatherElements(interleaved, source, 1)
}

const even = <V extends Value>(g: Graph, x: V): V => g.slice(x, 1, 0, undefined, 2)
const odd = <V extends Value>(g: Graph, x: V): V => g.slice(x, 1, 1, undefined, 2)
