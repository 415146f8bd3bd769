import type { AttributeProto, ModelProto, NodeProto } from './proto.ts'
import { intAttribute, nameSource, namesOf } from './rewrite.ts'
import { allGraphs } from './visit.ts'
import { ModelFolderError } from './weights.ts'

/** Version of an operator set that a model uses; 0 when it does not. The empty domain is ONNX's own. */
export function opsetOf({ opsetImport }: ModelProto, domain = ''): number {
  return opsetImport.find((each) => domainOf(each) === domain)?.version ?? 0
}

/** `ai.onnx` is another name of the empty domain. */
export const domainOf = ({ domain = '' }: { domain?: string }): string => (domain === 'ai.onnx' ? '' : domain)

interface Context {
  /** Name of a constant vector. */
  constant(values: number[]): string
  uniqueName(wanted: string): string
}

interface Change {
  /** The version that computes differently, or takes its settings elsewhere. */
  at: number
  /** The node as that version has it, or nodes that do the same; undefined: no way is known. */
  apply(node: NodeProto, context: Context): NodeProto[] | undefined
}

const intsAttribute = ({ attribute = [] }: NodeProto, name: string): number[] | undefined =>
  attribute.find((each) => each.name === name)?.ints?.map(Number)

const without = (node: NodeProto, name: string): NodeProto => ({
  ...node,
  attribute: (node.attribute ?? []).filter((each) => each.name !== name),
})

/** The settings came as an attribute, and come as the second input. */
const attributeToInput =
  (name: string): Change['apply'] =>
  (node, { constant }) => {
    const values = intsAttribute(node, name)
    return [values ? { ...without(node, name), input: [node.input[0]!, constant(values)] } : node]
  }

/** The axis was where the tensor is flattened to a matrix, and is the one axis. */
const flattened: Change['apply'] = (node, { uniqueName }) => {
  const axis = intAttribute(node, 'axis') ?? 1
  if (axis === -1) return [node]
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
    step(node.opType, [matrix!], result!, [{ name: 'axis', type: 2, i: -1 }]),
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
  GridSample: unknownAt(20),
  DFT: unknownAt(20),
  GroupNormalization: unknownAt(21),
}

/** Operators of older versions may be anything. */
const oldest = 11

/**
 * Writes a model for a newer version of ONNX's operators, in place, so that it can be joined with others. Functions
 * have versions of their own and stay as they are.
 * @throws ModelFolderError when it uses an operator for which that is not known
 */
export function convertOpset(model: ModelProto, to: number, file: string): void {
  const from = opsetOf(model)
  if (from >= to) return
  if (from < oldest)
    throw new ModelFolderError(
      `${file} uses version ${from} of ONNX's operators; ${oldest} and newer can be used. Export the model again.`,
    )
  const uniqueName = nameSource(namesOf(model.graph))
  for (const graph of [...allGraphs(model.graph)]) {
    const initializer = graph.initializer ?? []
    const constant = (values: number[]) => {
      const name = uniqueName('axes')
      const rawData = new Uint8Array(BigInt64Array.from(values, BigInt).buffer)
      initializer.push({ name, dataType: 7, dims: [values.length], rawData })
      return name
    }
    const convert = (node: NodeProto) => convertNode(node, { from, to, file }, { constant, uniqueName })
    graph.node = graph.node.flatMap(convert)
    graph.initializer = initializer
  }
  model.opsetImport = [
    ...model.opsetImport.filter((each) => domainOf(each) !== ''),
    { domain: '', version: to },
  ]
}

function convertNode(
  node: NodeProto,
  { from, to, file }: { from: number; to: number; file: string },
  context: Context,
): NodeProto[] {
  if (domainOf(node) !== '') return [node]
  let nodes = [node]
  for (const { at, apply } of changes[node.opType] ?? []) {
    if (at <= from || at > to) continue
    nodes = nodes.flatMap((each) => {
      const converted = each.opType === node.opType ? apply(each, context) : [each]
      if (converted) return converted
      throw new ModelFolderError(
        `${file} uses ${node.opType} of version ${from}, which is not known to compute the same in version ${to}. Export the model again with opset ${to}.`,
      )
    })
  }
  return nodes
}
