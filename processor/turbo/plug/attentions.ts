import { floatOf, intOf, intsOf, isStandard } from '../../onnx/attributes.ts'
import { runtimeDomain } from '../../onnx/operators.ts'
import type { NodeProto } from '../../onnx/proto.ts'
import type { Encoder } from './encoder.ts'
import { nameOf, PlugRefusal } from './refusal.ts'

/**
 * How the tensors of an attention lie: `heads [B, H, N, d]`, `flat [B * H, N, d]`, or `joined [B, N, H * d]`.
 * `keysTransposed` swaps the last two axes of the keys.
 */
export type Layout = 'heads' | 'flat' | 'joined'

/** An attention of tokens to one another, `softmax(scale * q k^T) v`, with names of the tensors where it begins and ends. */
export interface Attention {
  /** Its last node, whose output is `output`. */
  last: NodeProto
  /** Its nodes, in order. */
  inside: NodeProto[]
  /** The one of them that makes probabilities, where they are visible. */
  softmax?: NodeProto
  layout: Layout
  keysTransposed: boolean
  q: string
  k: string
  v: string
  output: string
  heads: number
  headWidth: number
  valueWidth: number
  tokens: number
  scale: number
  /** Tensors that are added to the logits. */
  masks: string[]
}

/** True when an attention's node adds one of its masks. */
export const addsMask = ({ masks, inside }: Attention, node: NodeProto): boolean =>
  node.opType === 'Add' && inside.includes(node) && node.input.some((name) => masks.includes(name))

/**
 * Every attention of image tokens to one another, in order; those that cannot be read are left to whoever follows the
 * tokens, which is a reason to refuse them.
 * @throws PlugRefusal when there is none that can be read
 */
export function findAttentions(encoder: Encoder): Attention[] {
  const found = encoder.view.graph.node.flatMap((node) => {
    if (!node.output[0] || !encoder.isPixels(node.output[0])) return []
    if (isStandard(node) && node.opType === 'Softmax') return fromSoftmax(encoder, node)
    if (isStandard(node) && node.opType === 'Attention') return fromAttention(encoder, node)
    if (node.domain === runtimeDomain && node.opType === 'MultiHeadAttention')
      return fromMultiHead(encoder, node)
    return []
  })
  if (found.length > 0) return found
  const unreadable = encoder.view.graph.node.find((node) => isWeighing(encoder, node))
  throw new PlugRefusal(
    unreadable
      ? `its attention is no softmax(q k) v with one scale (${nameOf(unreadable)})`
      : 'it has no attention of image tokens to one another',
  )
}

/** A softmax that may be one over tokens. */
const isWeighing = (encoder: Encoder, { opType, output }: NodeProto): boolean =>
  opType === 'Softmax' && encoder.isPixels(output[0]!) && encoder.shape(output[0]!).length > 2

/** Operators between probabilities and their product that change nothing that counts. */
const passing = new Set(['Cast', 'CastLike', 'Identity', 'Dropout', 'Where'])

function fromSoftmax(encoder: Encoder, softmax: NodeProto): Attention[] {
  const { view } = encoder
  const shape = encoder.shape(softmax.output[0]!)
  const [queries = 0, keys = 0] = shape.slice(-2)
  const axis = intOf(softmax, 'axis') ?? -1
  if (shape.length < 3 || queries < 2 || queries !== keys || (axis !== -1 && axis !== shape.length - 1))
    return []
  const before = logitsOf(encoder, softmax)
  // A softmax over something else than logits of attention is left to whoever follows the tokens.
  if (!before) return []
  const { product, scale, masks, inside } = before
  const after = productOf(encoder, softmax)
  const [q, k] = product.input as [string, string]
  const v = after.product.input[1]!
  if (shape.length > 4) throw new PlugRefusal(`attention over windows (${nameOf(softmax)})`)
  const transposed = !isFused(product) || !intOf(product, 'transB')
  const rows = encoder.shape(q)
  return [
    {
      last: after.product,
      inside: [product, ...inside.toReversed(), softmax, ...after.inside, after.product],
      softmax,
      layout: shape.length === 4 ? 'heads' : 'flat',
      keysTransposed: transposed,
      q,
      k,
      v,
      output: view.consumers(after.product.output[0]!).length === 0 ? '' : after.product.output[0]!,
      heads: rows.at(-3)!,
      headWidth: rows.at(-1)!,
      valueWidth: encoder.shape(v).at(-1)!,
      tokens: queries,
      scale: scale * (isFused(product) ? (floatOf(product, 'alpha') ?? 1) : 1),
      masks,
    },
  ]
}

const isFused = ({ opType }: NodeProto) => opType === 'FusedMatMul'
const isProduct = (node: NodeProto) =>
  (isStandard(node) && node.opType === 'MatMul') || (isFused(node) && !intOf(node, 'transA'))

/** Back from a softmax over scales and masks to the product of queries and keys. */
function logitsOf(encoder: Encoder, softmax: NodeProto) {
  const inside: NodeProto[] = []
  const masks: string[] = []
  let scale = 1
  let tensor = softmax.input[0]!
  for (;;) {
    const node = encoder.view.producer(tensor)
    if (!node) return undefined
    if (isProduct(node) && node.input.every((name) => encoder.isPixels(name)))
      return { product: node, scale, masks, inside }
    inside.push(node)
    const [a, b] = node.input as [string, string]
    if (passing.has(node.opType) && node.opType !== 'Where') tensor = a
    else if (['Mul', 'Div', 'Add'].includes(node.opType)) {
      if (encoder.isPixels(a) === encoder.isPixels(b)) return undefined
      const [logits, other] = encoder.isPixels(a) ? [a, b] : [b, a]
      const factor = encoder.scalar(other)
      if (node.opType === 'Add') masks.push(other)
      else if (factor === undefined || (node.opType === 'Div' && logits !== a)) return undefined
      else scale = node.opType === 'Mul' ? scale * factor : scale / factor
      tensor = logits
    } else return undefined
  }
}

/** Forward from a softmax to the product of probabilities and values. */
function productOf(encoder: Encoder, softmax: NodeProto): { product: NodeProto; inside: NodeProto[] } {
  const { view } = encoder
  const inside: NodeProto[] = []
  let tensor = softmax.output[0]!
  for (;;) {
    if (view.outputs.has(tensor)) throw new PlugRefusal(`the output ${tensor} shows its attentions`)
    const readers = view.consumers(tensor).filter(({ opType }) => opType !== 'Shape')
    const product = readers.find((node) => isProduct(node) && node.input[0] === tensor && !isFused(node))
    if (product) return { product, inside }
    const next = readers.find(({ opType }) => passing.has(opType))
    if (!next)
      throw new PlugRefusal(`its attention is no product of probabilities and values (${nameOf(softmax)})`)
    inside.push(...readers)
    tensor = next.output[0]!
  }
}

/** ONNX's own operator, since opset 23: `q`, `k`, `v` per head or joined. */
function fromAttention(encoder: Encoder, node: NodeProto): Attention[] {
  const [q, k, v, mask, ...past] = node.input as [string, string, string, string?, ...string[]]
  const joined = encoder.shape(q).length === 3
  const [queries, keys] = [q, k].map((name) => encoder.shape(name).at(-2)!) as [number, number]
  if (queries < 2 || queries !== keys) return []
  if (past.some((name) => name) || intOf(node, 'is_causal') || floatOf(node, 'softcap'))
    throw new PlugRefusal(`its attention is no plain one (${nameOf(node)})`)
  refuseShown(encoder, node)
  const heads = joined ? intOf(node, 'q_num_heads')! : encoder.shape(q)[1]!
  const keyHeads = joined ? intOf(node, 'kv_num_heads')! : encoder.shape(k)[1]!
  if (heads !== keyHeads) throw new PlugRefusal(`its heads share keys (${nameOf(node)})`)
  const headWidth = encoder.shape(q).at(-1)! / (joined ? heads : 1)
  return [
    {
      last: node,
      inside: [node],
      layout: joined ? 'joined' : 'heads',
      keysTransposed: false,
      q,
      k,
      v,
      output: node.output[0]!,
      heads,
      headWidth,
      valueWidth: encoder.shape(v).at(-1)! / (joined ? heads : 1),
      tokens: queries,
      scale: floatOf(node, 'scale') ?? headWidth ** -0.5,
      masks: mask ? [mask] : [],
    },
  ]
}

/** ONNX Runtime's operator: `q`, `k`, `v` joined, without a bias. */
function fromMultiHead(encoder: Encoder, node: NodeProto): Attention[] {
  const [q, k, v, bias, padding, mask, ...past] = node.input as [string, string, string, ...string[]]
  const [queries, keys] = [q, k].map((name) => encoder.shape(name)[1]!) as [number, number]
  if (queries < 2 || queries !== keys) return []
  if (bias || padding || past.some((name) => name) || intOf(node, 'unidirectional') || !k || !v)
    throw new PlugRefusal(`its attention is no plain one (${nameOf(node)})`)
  if ([q, k, v].some((name) => encoder.shape(name).length !== 3))
    throw new PlugRefusal(`its attention packs queries, keys and values (${nameOf(node)})`)
  refuseShown(encoder, node)
  const heads = intOf(node, 'num_heads')!
  const headWidth = encoder.shape(q).at(-1)! / heads
  return [
    {
      last: node,
      inside: [node],
      layout: 'joined',
      keysTransposed: false,
      q,
      k,
      v,
      output: node.output[0]!,
      heads,
      headWidth,
      valueWidth: encoder.shape(v).at(-1)! / heads,
      tokens: queries,
      scale: floatOf(node, 'scale') || headWidth ** -0.5,
      masks: mask ? [mask] : [],
    },
  ]
}

function refuseShown({ view }: Encoder, { output }: NodeProto): void {
  const shown = output
    .slice(1)
    .find((name) => name && (view.outputs.has(name) || view.consumers(name).length))
  if (shown) throw new PlugRefusal(`its attention gives more than its values (${shown})`)
}

/** `[B, N, H * d]` that a tensor per head was made of, where it was only split into heads; and a factor. */
export function beforeHeads(
  encoder: Encoder,
  tensor: string,
  { heads, transposed }: { heads: number; transposed: boolean },
): { joined: string; factor: number } | undefined {
  let factor = 1
  let name = tensor
  for (;;) {
    const node = encoder.view.producer(name)
    if (!node) return undefined
    if (node.opType === 'Mul') {
      const [a, b] = node.input as [string, string]
      const [scaled, other] = encoder.isPixels(a) ? [a, b] : [b, a]
      const value = encoder.scalar(other)
      if (value === undefined || encoder.shape(scaled).length !== 4) return undefined
      factor *= value
      name = scaled
      continue
    }
    if (node.opType !== 'Transpose' || intsOf(node, 'perm')?.join() !== (transposed ? '0,2,3,1' : '0,2,1,3'))
      return undefined
    const split = encoder.view.producer(node.input[0]!)
    if (split?.opType !== 'Reshape') return undefined
    const joined = split.input[0]!
    const [batch, tokens, width] = encoder.shape(joined)
    const [, , splitHeads, headWidth] = encoder.shape(split.output[0]!)
    const plain =
      encoder.shape(joined).length === 3 &&
      splitHeads === heads &&
      width === heads * headWidth! &&
      encoder.shape(split.output[0]!)[0] === batch &&
      encoder.shape(split.output[0]!)[1] === tokens
    return plain ? { joined, factor } : undefined
  }
}
