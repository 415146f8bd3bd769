import { intOf, intsOf } from '../../onnx/attributes.ts'
import type { Graph } from '../../onnx/graph.ts'
import type { Float, Int, Value } from '../../onnx/operators.ts'
import type { NodeProto } from '../../onnx/proto.ts'
import { proportionalSoftmax } from '../attention.ts'
import type { Encoder } from './encoder.ts'
import { type Followed, type Stage, TokenReader } from './followed.ts'

/** What an operator that reads tokens becomes. */
export interface Reading {
  encoder: Encoder
  g: Graph
  node: NodeProto
  /** The followed inputs by name; at least one. */
  inputs: ReadonlyMap<string, Followed>
  /** What a tensor is called now. */
  now: (tensor: string) => string
  typeOf: (tensor: string) => Float['type']
}

export interface Read {
  /** The operator, with the names that tensors have now; undefined where `g` has nodes for it. */
  node?: NodeProto
  /** What of its outputs is followed. */
  followed: ReadonlyMap<string, Followed>
}

type Reader = (reading: Reading) => Read

const elementwise = `Abs Add BiasGelu Cast CastLike Ceil Celu Clip Div Dropout DynamicQuantizeLinear Elu Erf Exp FastGelu
  Floor Gelu HardSigmoid HardSwish Identity IsNaN LeakyRelu Log Max Mean Min Mish Mul Neg PRelu Pow QuickGelu
  QuantizeLinear DequantizeLinear Reciprocal Relu Round Selu Sigmoid Sin Cos Softplus Softsign Sqrt Sub Sum Tanh
  ThresholdedRelu Where Greater Less Equal Not And Or`
const alongLastAxis = [
  'LayerNormalization',
  'SimplifiedLayerNormalization',
  'RMSNormalization',
  'LpNormalization',
]

/** Readers of tokens that work on merged ones, or that can be made to; by operator. */
const readers: Readonly<Record<string, Reader>> = {
  ...Object.fromEntries(elementwise.split(/\s+/).map((opType) => [opType, readElements])),
  ...Object.fromEntries(alongLastAxis.map((opType) => [opType, readNormalised])),
  Softmax: readSoftmax,
  MatMul: readProduct,
  FusedMatMul: readProduct,
  MatMulInteger: readProduct,
  MatMulNBits: readProduct,
  Gemm: readGemm,
  MultiHeadAttention: readFusedAttention,
  Attention: readFusedAttention,
  Reshape: readReshape,
  Transpose: readTranspose,
  Unsqueeze: readUnsqueeze,
  Squeeze: readSqueeze,
  Gather: readGather,
  Slice: readSlice,
  Split: readSplit,
  Concat: readConcat,
  Expand: readExpand,
  ...Object.fromEntries(
    ['Mean', 'Sum', 'Max', 'Min', 'L2', 'SumSquare'].map((kind) => [`Reduce${kind}`, readReduction]),
  ),
}

/** Follows tokens through one operator. @throws TokenReader when it reads them in a way that merging changes. */
export function readTokens(reading: Reading): Read {
  const { node } = reading
  if (node.opType === 'Shape') return { node: renamed(reading), followed: new Map() }
  const reader = readers[node.opType]
  if (!reader) throw new TokenReader(`operator ${node.opType}`)
  return reader(reading)
}

const renamed = ({ node, now }: Reading): NodeProto => ({
  ...node,
  input: node.input.map((name) => (name ? now(name) : '')),
})

const first = ({ inputs }: Reading): [string, Followed] => inputs.entries().next().value!

/** All followed inputs, which must be tokens of one stage. */
function oneStage({ inputs }: Reading): Followed[] {
  const all = [...inputs.values()]
  if (all.some(({ stage, flat }) => stage !== all[0]!.stage || flat !== all[0]!.flat))
    throw new TokenReader('tokens of several blocks')
  return all
}

/** Follows the first output, along one axis. */
const along = (reading: Reading, axis: number, more: Partial<Followed> = {}): Read => ({
  node: renamed(reading),
  followed: new Map([[reading.node.output[0]!, { ...first(reading)[1], axis, ...more }]]),
})

/** The outputs have no tokens. */
const gone = (reading: Reading, node?: NodeProto): Read => ({
  node: node ?? renamed(reading),
  followed: new Map(),
})

function readElements(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const all = oneStage(reading)
  const fromEnd = (name: string, { axis }: Followed) => encoder.shape(name).length - axis
  const places = new Set([...inputs].map(([name, followed]) => fromEnd(name, followed)))
  if (places.size > 1) throw new TokenReader(`tokens along two axes`)
  const [place] = places as unknown as [number]
  const [name, followed] = first(reading)
  const count = encoder.shape(name)[followed.axis]!
  for (const other of node.input) {
    const shape = encoder.shape(other)
    if (!inputs.has(other) && count > 1 && shape.length >= place && shape.at(-place) === count)
      throw new TokenReader(`an operand for each token, [${shape.join(', ')}]`)
  }
  const probabilities = all.some((each) => each.probabilities)
  const outputs = node.output.filter((output) => output && encoder.shape(output).length >= place)
  return {
    node: renamed(reading),
    followed: new Map(
      outputs.map((output) => [
        output,
        { ...followed, axis: encoder.shape(output).length - place, probabilities },
      ]),
    ),
  }
}

function readNormalised(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const followed = inputs.get(node.input[0]!)
  const rank = encoder.shape(node.input[0]!).length
  const axis = intOf(node, 'axis') ?? -1
  if (!followed || inputs.size > 1 || followed.axis >= (axis + rank) % rank)
    throw new TokenReader(`${node.opType} over tokens`)
  return along(reading, followed.axis)
}

/** A softmax over the tokens counts each as often as the patches that it stands for. */
function readSoftmax(reading: Reading): Read {
  const { encoder, g, node, now, typeOf } = reading
  const [name, { axis, flat, stage }] = first(reading)
  const rank = encoder.shape(name).length
  if (((intOf(node, 'axis') ?? -1) + rank) % rank !== axis) return along(reading, axis)
  if (axis !== rank - 1 || flat || rank < 3 || rank > 4) throw new TokenReader('softmax over tokens')
  const logits = { name: now(name), type: typeOf(name) } as Float
  const probabilities = proportionalSoftmax(g, logits, stage.sizes, rank)
  return {
    node: { opType: 'Identity', name: node.name, input: [probabilities.name], output: node.output },
    followed: new Map([[node.output[0]!, { stage, axis, flat, probabilities: true }]]),
  }
}

function readProduct(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const [a, b] = node.input as [string, string]
  const left = inputs.get(a)
  const right = node.opType === 'MatMulNBits' ? undefined : inputs.get(b)
  const rank = encoder.shape(node.output[0]!).length
  const [rankLeft, rankRight] = [encoder.shape(a).length, encoder.shape(b).length]
  if (intOf(node, 'transA') || intOf(node, 'transBatchA') || intOf(node, 'transBatchB'))
    throw new TokenReader(`a transposed ${node.opType}`)
  const [inner, outer] = intOf(node, 'transB')
    ? [rankRight - 1, rankRight - 2]
    : [rankRight - 2, rankRight - 1]
  if (left && right) {
    const summed = left.axis === rankLeft - 1 && right.axis === inner && left.stage === right.stage
    if (summed && left.probabilities) return gone(reading)
    throw new TokenReader('a product of tokens with one another')
  }
  if (left && left.axis < rankLeft - 1) return along(reading, left.axis + rank - rankLeft)
  if (right && right.axis === outer) return along(reading, rank - 1)
  throw new TokenReader('a sum over tokens')
}

function readGemm(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const [a, , c] = node.input as [string, string, string?]
  const followed = inputs.get(a)
  const rows = encoder.shape(a)[0]
  if (!followed || inputs.size > 1 || followed.axis !== 0 || intOf(node, 'transA'))
    throw new TokenReader('a sum over tokens')
  const shift = c ? encoder.shape(c) : []
  if (shift.length === 2 && shift[0] === rows && rows! > 1) throw new TokenReader('an operand for each token')
  return along(reading, 0)
}

/** An attention of others to the tokens: their sizes are a bias. */
function readFusedAttention(reading: Reading): Read {
  const { g, node, inputs, now, encoder, typeOf } = reading
  const [q, k, v] = node.input as [string, string, string]
  const [keys, values] = [inputs.get(k), inputs.get(v)]
  if (inputs.has(q) || !keys || !values || keys.stage !== values.stage || keys.flat)
    throw new TokenReader('an attention')
  const place = node.opType === 'Attention' ? 3 : 5
  if (node.input[place]) throw new TokenReader('an attention with a mask')
  const type = typeOf(q)
  const logSizes = g.cast(g.transpose(g.log(keys.stage.sizes), [0, 2, 1]), type) as Float
  const queries = g.shape({ name: now(q), type }, encoder.shape(q).length - 2, encoder.shape(q).length - 1)
  const bias = g.expand(g.unsqueeze(logSizes, 1), g.concat([g.ints([1, 1]), queries, g.ints([1])], 0))
  const input = Array.from({ length: place }, (_, i) => (node.input[i] ? now(node.input[i]) : ''))
  return gone(reading, { ...node, input: [...input, bias.name] })
}

/** How many there are now, `int64 [1]`. */
const countOf = (g: Graph, { sizes }: Stage): Int => g.shape(sizes, 1, 2)

const product = (sizes: readonly number[]) => sizes.reduce((all, size) => all * size, 1)

/**
 * A shape that names the number of tokens, or one computed from what has not merged, gets the number that there are.
 * The axis is found by what lies behind it, which merging does not change.
 */
function readReshape(reading: Reading): Read {
  const { encoder, node } = reading
  const [name, followed] = first(reading)
  const from = encoder.shape(name)
  const to = encoder.shape(node.output[0]!)
  const behind = product(from.slice(followed.axis + 1))
  const { tokens } = followed.stage
  const axisOf = (fits: (size: number) => boolean) =>
    to.findIndex((size, axis) => fits(size) && product(to.slice(axis + 1)) === behind)
  const own = axisOf((size) => size === tokens)
  const axis =
    own >= 0
      ? own
      : axisOf((size) => size % tokens === 0 && size === product(from.slice(0, followed.axis + 1)))
  if (axis < 0 || followed.stage.tokens === 1) throw new TokenReader(`a grid, [${to.join(', ')}]`)
  return respelled(reading, { ...followed, axis, flat: own < 0 }, name)
}

/** The node with its shape, an input, corrected at the axis of the tokens. */
function respelled(reading: Reading, followed: Followed, name: string): Read {
  const { encoder, g, node, now } = reading
  const { axis, flat, stage } = followed
  const spelled = encoder.view.constants.has(node.input[1]!) && encoder.value(node.input[1])
  const kept = encoder.shape(name).length > axis && reading.inputs.get(name)!.axis === axis && !flat
  const fine = spelled && (spelled[axis] === -1 || (spelled[axis] === 0 && kept && !intOf(node, 'allowzero')))
  const input = [now(name)]
  if (fine) input.push(node.input[1]!)
  else {
    const old = { name: now(node.input[1]!), type: 'int64' } as Int
    const rank = encoder.shape(node.output[0]!).length
    const parts = [
      ...(axis > 0 ? [g.slice(old, 0, 0, axis)] : []),
      flat ? g.ints([-1]) : countOf(g, stage),
      ...(axis + 1 < rank ? [g.slice(old, 0, axis + 1, rank)] : []),
    ]
    input.push(g.concat(parts, 0).name)
  }
  return { node: { ...node, input }, followed: new Map([[node.output[0]!, followed]]) }
}

function readExpand(reading: Reading): Read {
  const { encoder, node } = reading
  const [name, followed] = first(reading)
  const axis = followed.axis + encoder.shape(node.output[0]!).length - encoder.shape(name).length
  if (followed.flat) throw new TokenReader('Expand')
  return respelled(reading, { ...followed, axis }, name)
}

function readTranspose(reading: Reading): Read {
  const [name, { axis }] = first(reading)
  const rank = reading.encoder.shape(name).length
  const perm = intsOf(reading.node, 'perm') ?? Array.from({ length: rank }, (_, i) => rank - 1 - i)
  return along(reading, perm.indexOf(axis))
}

const axesOf = ({ encoder, node }: Reading, rank: number): number[] | undefined =>
  encoder.value(node.input[1])?.map((axis) => (axis + rank) % rank)

function readUnsqueeze(reading: Reading): Read {
  const rank = reading.encoder.shape(reading.node.output[0]!).length
  const axes = axesOf(reading, rank)
  if (!axes) throw new TokenReader('Unsqueeze')
  const rest = Array.from({ length: rank }, (_, i) => i).filter((axis) => !axes.includes(axis))
  return along(reading, rest[first(reading)[1].axis]!)
}

function readSqueeze(reading: Reading): Read {
  const [name, { axis }] = first(reading)
  const shape = reading.encoder.shape(name)
  const axes = axesOf(reading, shape.length) ?? shape.flatMap((size, i) => (size === 1 ? [i] : []))
  return along(reading, axis - axes.filter((each) => each < axis).length)
}

/** One of the tokens at the front may be taken; others are not where they were. */
function readGather(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const [data, indices] = node.input as [string, string]
  const followed = inputs.get(data)
  if (!followed || inputs.size > 1) throw new TokenReader('Gather')
  const rank = encoder.shape(data).length
  const axis = ((intOf(node, 'axis') ?? 0) + rank) % rank
  if (axis !== followed.axis)
    return along(
      reading,
      followed.axis < axis ? followed.axis : followed.axis - 1 + encoder.shape(indices).length,
    )
  const taken = encoder.value(indices)
  const fixed = taken?.every((index) => index >= 0 && index < followed.stage.prefix)
  if (!fixed || followed.flat) throw new TokenReader('a choice of tokens')
  return gone(reading)
}

function readSlice(reading: Reading): Read {
  const { encoder, g, node } = reading
  const [name, followed] = first(reading)
  const rank = encoder.shape(name).length
  const [starts, ends, axes, steps] = [1, 2, 3, 4].map((i) => encoder.value(node.input[i]))
  if (!starts || !ends) throw new TokenReader('a part of the tokens')
  const named = axes?.map((axis) => (axis + rank) % rank) ?? starts.map((_, i) => i)
  const at = named.indexOf(followed.axis)
  if (at < 0) return along(reading, followed.axis)
  const { stage } = followed
  const size = stage.tokens
  const place = (value: number) => Math.min(size, value < 0 ? value + size : value)
  const [start, end] = [place(starts[at]!), place(ends[at]!)]
  if ((steps?.[at] ?? 1) !== 1 || followed.flat || start > stage.prefix)
    throw new TokenReader('a part of the tokens')
  if (end <= stage.prefix) return gone(reading)
  if (end < size) throw new TokenReader('a part of the tokens')
  if (start === 0) return along(reading, followed.axis)
  return along(reading, followed.axis, { stage: withoutFront(g, stage, start) })
}

function withoutFront(g: Graph, stage: Stage, count: number): Stage {
  const sizes = g.slice(stage.sizes, 1, count)
  const source = stage.source && g.sub(g.slice(stage.source, 1, count), g.ints([count]))
  return { sizes, source, tokens: stage.tokens - count, prefix: stage.prefix - count }
}

function readSplit(reading: Reading): Read {
  const { encoder, node } = reading
  const [name, followed] = first(reading)
  const rank = encoder.shape(name).length
  if (((intOf(node, 'axis') ?? 0) + rank) % rank === followed.axis)
    throw new TokenReader('a part of the tokens')
  return {
    node: renamed(reading),
    followed: new Map(node.output.map((output) => [output, followed])),
  }
}

function readConcat(reading: Reading): Read {
  const { encoder, node, inputs } = reading
  const all = oneStage(reading)
  const [name, { axis }] = first(reading)
  const rank = encoder.shape(name).length
  const same = all.every((each) => each.axis === axis) && node.input.every((input) => inputs.has(input))
  if (!same || ((intOf(node, 'axis') ?? 0) + rank) % rank === axis)
    throw new TokenReader('tokens with others beside them')
  return along(reading, axis)
}

/** A mean over the tokens counts each as often as the patches that it stands for. */
function readReduction(reading: Reading): Read {
  const { encoder, g, node, now, typeOf } = reading
  const [name, { axis, flat, stage }] = first(reading)
  const rank = encoder.shape(name).length
  const axes = axesOf(reading, rank)
  if (!axes) throw new TokenReader(`${node.opType} over tokens`)
  const keep = (intOf(node, 'keepdims') ?? 1) === 1
  if (!axes.includes(axis))
    return along(reading, keep ? axis : axis - axes.filter((each) => each < axis).length)
  if (node.opType !== 'ReduceMean' || axes.length > 1 || rank !== 3 || axis !== 1 || flat)
    throw new TokenReader(`${node.opType} over tokens`)
  const x = { name: now(name), type: typeOf(name) } as Float
  const shares = g.div(stage.sizes, sumOf(g, stage.sizes))
  const weighted = g.matmul(g.cast(g.transpose(shares, [0, 2, 1]), x.type) as Float, x)
  const mean = keep ? weighted : g.reshape(weighted, [0, -1])
  return gone(reading, { opType: 'Identity', name: node.name, input: [mean.name], output: node.output })
}

const sumOf = (g: Graph, sizes: Value<'float32'>): Value<'float32'> =>
  g.op('ReduceSum', [sizes, g.ints([1])], ['float32'])[0]
