import { floatOf, intOf, intsOf } from '../../onnx/attributes.ts'
import { runtimeDomain } from '../../onnx/operators.ts'
import { type AttributeProto, dataTypes, type GraphProto, type NodeProto } from '../../onnx/proto.ts'
import { nameOf, PlugRefusal } from './refusal.ts'

const int = (name: string, i: number): AttributeProto => ({ name, type: 2, i })
const float = (name: string, f: number): AttributeProto => ({ name, type: 1, f })

/**
 * Takes ONNX Runtime's fused operators apart as far as Turbo needs to see inside: hidden states become additions, and
 * attentions have their queries, keys and values as inputs. Numbers stay the same.
 */
export function plainGraph(graph: GraphProto): GraphProto {
  const sizes = new Map((graph.initializer ?? []).map(({ name, dims }) => [name, dims.map(Number)]))
  const initializer = [...(graph.initializer ?? [])]
  const constant = (name: string, values: number[]) => {
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    initializer.push({ name, dataType: dataTypes.int64, dims: [values.length], rawData })
    return name
  }
  const node = graph.node.flatMap((each): NodeProto[] => {
    if (each.domain !== runtimeDomain) return [each]
    if (each.opType === 'SkipLayerNormalization') return plainSkipLayerNorm(each)
    if (each.opType === 'Attention') return plainAttention(each, sizes, constant)
    if (each.opType === 'MultiHeadAttention' && each.input[3]) return plainBias(each, sizes, constant)
    return [each]
  })
  return { ...graph, node, initializer }
}

function plainSkipLayerNorm(node: NodeProto): NodeProto[] {
  const [x, skip, scale, shift, bias] = node.input as [string, string, string, string?, string?]
  const at = node.output[0]!
  const sum = node.output[3] || `${at}/sum`
  const biased: NodeProto[] = bias ? [{ opType: 'Add', input: [skip, bias], output: [`${at}/biased`] }] : []
  return [
    ...biased,
    { opType: 'Add', name: node.name, input: [x, bias ? `${at}/biased` : skip], output: [sum] },
    {
      opType: 'LayerNormalization',
      name: `${node.name}/norm`,
      input: [sum, scale, ...(shift ? [shift] : [])],
      output: [at],
      attribute: [int('axis', -1), float('epsilon', floatOf(node, 'epsilon') ?? 1e-12)],
    },
  ]
}

type Constant = (name: string, values: number[]) => string

function plainAttention(node: NodeProto, sizes: Map<string, number[]>, constant: Constant): NodeProto[] {
  const [x, weight, bias, ...others] = node.input as [string, string, string?, ...string[]]
  const heads = intOf(node, 'num_heads')!
  const hidden = sizes.get(weight)?.[1]
  const widths =
    intsOf(node, 'qkv_hidden_sizes') ?? (hidden ? [hidden / 3, hidden / 3, hidden / 3] : undefined)
  const special = others.some((name) => name) || intOf(node, 'unidirectional') || intOf(node, 'do_rotary')
  if (special || !widths || node.output.length > 1)
    throw new PlugRefusal(`its attention is no plain one (${nameOf(node)})`)
  const at = node.output[0]!
  const scale = floatOf(node, 'scale')
  const parts = ['q', 'k', 'v'].map((part) => `${at}/${part}`)
  return [
    { opType: 'MatMul', input: [x, weight], output: [`${at}/product`] },
    ...(bias ? [{ opType: 'Add', input: [`${at}/product`, bias], output: [`${at}/packed`] }] : []),
    {
      opType: 'Split',
      input: [`${at}/${bias ? 'packed' : 'product'}`, constant(`${at}/widths`, widths)],
      output: parts,
      attribute: [int('axis', -1)],
    },
    {
      opType: 'MultiHeadAttention',
      domain: runtimeDomain,
      name: node.name,
      input: parts,
      output: [at],
      attribute: [int('num_heads', heads), ...(scale ? [float('scale', scale)] : [])],
    },
  ]
}

/** Adds the bias of queries, keys and values before the attention. */
function plainBias(node: NodeProto, sizes: Map<string, number[]>, constant: Constant): NodeProto[] {
  const [q, k, v, bias, ...rest] = node.input as [string, string, string, string, ...string[]]
  const width = sizes.get(bias)?.[0]
  if (!width || !k || !v || width % 3 !== 0)
    throw new PlugRefusal(`its attention is packed (${nameOf(node)})`)
  const at = node.output[0]!
  const parts = ['q', 'k', 'v'].map((part) => ({ shift: `${at}/${part}/bias`, sum: `${at}/${part}` }))
  const third = width / 3
  return [
    {
      opType: 'Split',
      input: [bias, constant(`${at}/widths`, [third, third, third])],
      output: parts.map(({ shift }) => shift),
      attribute: [int('axis', 0)],
    },
    ...[q, k, v].map((input, i) => ({
      opType: 'Add',
      input: [input, parts[i]!.shift],
      output: [parts[i]!.sum],
    })),
    { ...node, input: [...parts.map(({ sum }) => sum), '', ...rest] },
  ]
}
