import { domainOf, intOf, intsOf, isStandard } from './attributes.ts'
import { type AttributeProto, dataTypes, type GraphProto, type ModelProto, type NodeProto } from './proto.ts'
import { nameSource, namesOf } from './rewrite.ts'
import { bodiesOf } from './visit.ts'

/** Version of an operator set that a model uses; 0 when it does not. The empty domain is ONNX's own. */
export function opsetOf({ opsetImport }: ModelProto, domain = ''): number {
  return opsetImport.find((each) => domainOf(each) === domain)?.version ?? 0
}

/** A model whose operators cannot be written in a newer version; the message has no subject. */
export class OpsetError extends Error {
  override readonly name = 'OpsetError'
}

/** Number of axes of a tensor, where it is known. */
export type RankOf = (tensor: string) => number | undefined

interface Context {
  /** Name of a constant vector. */
  constant(values: number[]): string
  uniqueName(wanted: string): string
  rankOf?: RankOf
}

interface Change {
  /** The version that computes differently, or takes its settings elsewhere. */
  at: number
  /** The node as that version has it, or nodes that do the same; undefined: no way is known. */
  apply(node: NodeProto, context: Context): NodeProto[] | undefined
}

const without = (node: NodeProto, name: string): NodeProto => ({
  ...node,
  attribute: (node.attribute ?? []).filter((each) => each.name !== name),
})

/** The settings came as an attribute, and come as the second input. */
const attributeToInput =
  (name: string): Change['apply'] =>
  (node, { constant }) => {
    const values = intsOf(node, name)
    return [values ? { ...without(node, name), input: [node.input[0]!, constant(values)] } : node]
  }

/** The axis was where the tensor is flattened to a matrix, and is the one axis; the last one is the same in both. */
const flattened: Change['apply'] = (node, { uniqueName, rankOf }) => {
  const axis = intOf(node, 'axis') ?? 1
  if (axis === -1) return [node]
  const lastAxis: AttributeProto = { name: 'axis', type: 2, i: -1 }
  if (rankOf?.(node.input[0]!) === axis + 1) return [{ ...node, attribute: [lastAxis] }]
  if (rankOf) return undefined
  const [x, y] = [node.input[0]!, node.output[0]!]
  const [shape, matrix, result] = ['shape', 'matrix', 'result'].map((part) => uniqueName(`${y}/${part}`))
  const step = (opType: string, input: string[], output: string, attribute: AttributeProto[] = []) => ({
    opType,
    input,
    output: [output],
    name: output,
    attribute,
  })
  return [
    step('Shape', [x], shape!),
    step('Flatten', [x], matrix!, [{ name: 'axis', type: 2, i: axis }]),
    step(node.opType, [matrix!], result!, [lastAxis]),
    step('Reshape', [result!, shape!], y),
  ]
}

const axesAt = (at: number): Change[] => [{ at, apply: attributeToInput('axes') }]
const unknownAt = (at: number): Change[] => [{ at, apply: () => undefined }]
const reductions = ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare']

/** What changed for operators from version 11 on. Those that are not here kept what they compute. */
const changes: Readonly<Record<string, Change[]>> = {
  Squeeze: axesAt(13),
  Unsqueeze: axesAt(13),
  ReduceSum: axesAt(13),
  ...Object.fromEntries(reductions.map((name) => [`Reduce${name}`, axesAt(18)])),
  Split: [
    { at: 13, apply: attributeToInput('split') },
    {
      at: 18,
      apply(node) {
        if (node.input[1]) return [node]
        const parts: AttributeProto = { name: 'num_outputs', type: 2, i: node.output.length }
        return [{ ...node, attribute: [...(node.attribute ?? []), parts] }]
      },
    },
  ],
  Softmax: [{ at: 13, apply: flattened }],
  LogSoftmax: [{ at: 13, apply: flattened }],
  Hardmax: [{ at: 13, apply: flattened }],
  // Both do nothing else in training alone.
  Dropout: [{ at: 12, apply: (node) => [without(node, 'ratio')] }],
  BatchNormalization: [{ at: 14, apply: (node) => (node.output.length === 1 ? [node] : undefined) }],
  Upsample: unknownAt(12),
  Scatter: unknownAt(12),
  RoiAlign: unknownAt(16),
  GridSample: unknownAt(20),
  DFT: unknownAt(20),
  GroupNormalization: unknownAt(21),
}

/** Operators of older versions may be anything. */
const oldest = 11

export interface ConvertOptions {
  /** Given, operators stay one node each, and those that would become several are refused. */
  rankOf?: RankOf
}

/**
 * Writes a model for a newer version of ONNX's operators, so that it can be joined with others; one that is as new stays as it
 * is. Functions have versions of their own and stay as they are. The model given is not changed.
 * @throws OpsetError when it uses an operator for which that is not known
 */
export function convertOpset(model: ModelProto, to: number, { rankOf }: ConvertOptions = {}): ModelProto {
  const from = opsetOf(model)
  if (from >= to) return model
  if (from < oldest)
    throw new OpsetError(`uses version ${from} of ONNX's operators; ${oldest} and newer can be used`)
  const uniqueName = nameSource(namesOf(model.graph))
  return {
    ...model,
    irVersion: Math.max(model.irVersion, 8),
    opsetImport: [{ domain: '', version: to }, ...model.opsetImport.filter((each) => !isStandard(each))],
    graph: convertGraph(model.graph, { from, to, uniqueName, rankOf }),
  }
}

interface Conversion extends Omit<Context, 'constant'> {
  from: number
  to: number
}

function convertGraph(graph: GraphProto, conversion: Conversion): GraphProto {
  const initializer = [...(graph.initializer ?? [])]
  const constant = (values: number[]) => {
    const name = conversion.uniqueName('axes')
    const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
    initializer.push({ name, dataType: dataTypes.int64, dims: [values.length], rawData })
    return name
  }
  const node = graph.node.flatMap((each) =>
    convertNode(convertBodies(each, conversion), conversion, { ...conversion, constant }),
  )
  return { ...graph, node, initializer }
}

function convertBodies(node: NodeProto, conversion: Conversion): NodeProto {
  if (bodiesOf(node).length === 0) return node
  const attribute = node.attribute!.map((each) => ({
    ...each,
    ...(each.g && { g: convertGraph(each.g, conversion) }),
    ...(each.graphs && { graphs: each.graphs.map((graph) => convertGraph(graph, conversion)) }),
  }))
  return { ...node, attribute }
}

function convertNode(node: NodeProto, { from, to }: Conversion, context: Context): NodeProto[] {
  if (!isStandard(node)) return [node]
  let nodes = [node]
  for (const { at, apply } of changes[node.opType] ?? []) {
    if (at <= from || at > to) continue
    nodes = nodes.flatMap((each) => {
      const converted = each.opType === node.opType ? apply(each, context) : [each]
      if (converted) return converted
      throw new OpsetError(
        `uses ${node.opType} of version ${from}, which is not known to compute the same in version ${to}`,
      )
    })
  }
  return nodes
}
