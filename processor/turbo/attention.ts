import type { Graph } from '../onnx/graph.ts'
import type { Bool, Float, Value } from '../onnx/operators.ts'

export interface AttentionSettings {
  heads: number
  headWidth: number
  scale: number
  /** Width of the result, `heads * headWidth`. */
  width: number
  /** True when tokens have merged before; known at build time it saves a branch. */
  merged?: boolean
  /** Uses operators that are fastest on a GPU. */
  gpu?: boolean
}

/**
 * Self attention over merged tokens: `softmax(scale * q k^T + log size) v`, so that a token counts as often as
 * the patches it stands for (proportional attention; ToMe, section 3). `q`, `k`, `v` and the result are
 * `[B, N, heads * headWidth]`, `sizes` is `[B, N, 1]`.
 *
 * log(size) travels as one more channel of the keys against a constant in the queries: unlike a bias tensor that keeps
 * the fused attention kernel of CPUs in use. GPUs take a bias: their kernels want widths of a multiple of 8. Nothing is
 * added while no token has merged.
 *
 * @param tokens that entered the encoder
 */
export function proportionalAttention<V extends Float>(
  g: Graph,
  { q, k, v }: { q: V; k: V; v: V },
  sizes: Value<'float32'>,
  tokens: number,
  { heads, headWidth, scale, width, merged, gpu }: AttentionSettings,
): V {
  const plain = (body: Graph) => body.attention(q, k, v, heads, scale)
  const proportional = (body: Graph) => (gpu ? withBias(body) : withChannel(body))
  if (merged !== undefined) return merged ? proportional(g) : plain(g)

  const write = (body: Graph, result: V) =>
    body.output(body.uniqueName('attended'), result, ['B', 'N', width])
  const unmerged = g.equal(g.shape(q, 1, 2), g.ints([tokens]))
  const [attended] = g.branch(
    unmerged,
    [q.type],
    (body) => write(body, plain(body)),
    (body) => write(body, proportional(body)),
  )
  return attended as V

  function withBias(body: Graph): V {
    const logSizes = body.cast(body.log(sizes), k.type) as V
    const row = body.unsqueeze(body.transpose(logSizes, [0, 2, 1]), 1)
    const [batch, count] = [body.shape(q, 0, 1), body.shape(q, 1, 2)]
    const bias = body.expand(row, body.concat([batch, body.ints([1]), count, count], 0))
    return body.attention(q, k, v, heads, scale, bias)
  }

  function withChannel(body: Graph): V {
    const join = (x: V) => body.reshape(x, [0, 0, heads * (headWidth + 1)])
    const { queries, keys } = withSizeChannel(body, q, k, sizes, { heads, headWidth, scale })
    return body.attention(join(queries), join(keys), v, heads, scale)
  }
}

/** Queries and keys with one more channel, whose product is log(size) once it is scaled: `[B, N, heads, headWidth + 1]`. */
function withSizeChannel<V extends Float>(
  g: Graph,
  q: V,
  k: V,
  sizes: Value<'float32'>,
  { heads, headWidth, scale }: { heads: number; headWidth: number; scale: number },
): { queries: V; keys: V } {
  const split = (x: V) => g.reshape(x, [0, 0, heads, headWidth])
  const logSizes = g.cast(g.unsqueeze(g.log(sizes), 2), k.type) as V
  const forEveryHead = g.mul(logSizes, g.scalars(new Array<number>(heads).fill(1), [1, 1, heads, 1], k))
  return {
    queries: g.appendConstant(split(q), 4, g.scalar(1 / scale, q)),
    keys: g.concat([split(k), forEveryHead], 3),
  }
}

/**
 * The same over merged tokens, and the mean attention that each token receives, over heads and queries: what stands for
 * the semantic value in encoders without CLS. The attention is then computed step by step, for fused kernels do not
 * show it; where it is not `needed`, they are used, and the values are zeros.
 *
 * @param needed scalar
 * @returns `attended [B, N, width]` and `received float32 [B, N]`
 */
export function attentionWithReceived<V extends Float>(
  g: Graph,
  { q, k, v }: { q: V; k: V; v: V },
  sizes: Value<'float32'>,
  tokens: number,
  settings: AttentionSettings & { needed: Bool },
): { attended: V; received: Value<'float32'> } {
  const { heads, scale, width } = settings
  const write = (body: Graph, result: V, received: Value<'float32'>) => {
    body.output(body.uniqueName('attended'), result, ['B', 'N', width])
    body.output(body.uniqueName('received'), received, ['B', 'N'])
  }
  const [attended, received] = g.branch(
    settings.needed,
    [q.type, 'float32'],
    (body) => {
      const { queries, keys } = withSizeChannel(body, q, k, sizes, settings)
      const scaled = body.mul(queries, body.scalar(scale, q))
      const logits = body.matmul(body.transpose(scaled, [0, 2, 1, 3]), body.transpose(keys, [0, 2, 3, 1]))
      const attention = body.softmax(logits)
      const values = body.transpose(body.reshape(v, [0, 0, heads, width / heads]), [0, 2, 1, 3])
      const joined = body.transpose(body.matmul(attention, values), [0, 2, 1, 3])
      write(body, body.reshape(joined, [0, 0, width]), meanReceived(body, attention))
    },
    (body) => {
      const none = body.expand(body.floats([0]), body.shape(q, 0, 2))
      write(body, proportionalAttention(body, { q, k, v }, sizes, tokens, settings), none)
    },
  ) as unknown as [V, Value<'float32'>]
  return { attended, received }
}

/** Mean of attention `[B, H, Q, N]` over heads and queries, `[B, N]`. */
export function meanReceived(g: Graph, attention: Float): Value<'float32'> {
  // Summed as a product: a mean over axes in the middle is slow.
  const queries = g.shape(attention, 2, 3)
  const ones = g.expand(g.scalar(1, attention), g.concat([g.ints([1]), queries], 0))
  const sums = g.cast(g.matmul(ones, attention) as Float, 'float32')
  return g.div(g.meanOver(sums, [1, 2]), g.cast(queries, 'float32'))
}

/**
 * Softmax over the last axis of logits `[B, H, Q, N]` or `[B * H, Q, N]`, in which a token counts as often as the
 * patches that it stands for. `sizes` is `[B, N, 1]`.
 *
 * @param rank number of axes of the logits
 */
export function proportionalSoftmax<V extends Float>(
  g: Graph,
  logits: V,
  sizes: Value<'float32'>,
  rank: number,
): V {
  const logSizes = g.unsqueeze(g.cast(g.transpose(g.log(sizes), [0, 2, 1]), logits.type), 1) as V
  if (rank === 4) return g.softmax(g.add(logits, logSizes))
  const ofImage = g.concat([g.shape(sizes, 0, 1), g.ints([-1]), g.shape(logits, 1)], 0)
  return g.softmax(g.reshape(g.add(g.reshape(logits, ofImage), logSizes), g.shape(logits)))
}
