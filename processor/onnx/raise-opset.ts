import { intOf, intsOf, isStandard } from './attributes.ts'
import { type AttributeProto, dataTypes, type GraphProto, type ModelProto, type NodeProto } from './proto.ts'

/** The version that `raiseOpset` writes. */
export const raisedOpset = 18
/** Below it operators differ in more than their spelling. */
const lowestOpset = 11

/** A model whose operators cannot be written in a newer version of ONNX; the message says which and why. */
export class OpsetError extends Error {
  override readonly name = 'OpsetError'
}

/** Operators whose attribute became an input, and since when. */
const axesSince: Readonly<Record<string, number>> = {
  Squeeze: 13,
  Unsqueeze: 13,
  ReduceSum: 13,
  ...Object.fromEntries(
    ['L1', 'L2', 'LogSum', 'LogSumExp', 'Max', 'Mean', 'Min', 'Prod', 'SumSquare'].map((kind) => [
      `Reduce${kind}`,
      18,
    ]),
  ),
}

/** Operators that mean something else since 18, or that need more than their own node to be rewritten. */
const notRaised = new Set(['RoiAlign', 'Upsample', 'Scatter', 'Scan', 'BatchNormalization', 'Hardmax'])

/** The version of ONNX's own operators that a model uses. */
export const opsetOf = (model: ModelProto): number =>
  Math.max(...model.opsetImport.filter(isStandard).map(({ version }) => Number(version)), 1)

/**
 * Writes a model in version 18 of ONNX's operators, in which numbers mean the same; models of that version or a newer
 * one stay as they are. The model given is not changed.
 *
 * @param rankOf number of axes of a tensor, where an operator's meaning depends on it
 * @throws OpsetError
 */
export function raiseOpset(model: ModelProto, rankOf: (tensor: string) => number | undefined): ModelProto {
  const from = opsetOf(model)
  if (from >= raisedOpset) return model
  if (from < lowestOpset) throw new OpsetError(`it has opset ${from}; export it with ${lowestOpset} or newer`)
  if (model.functions?.length) throw new OpsetError(`it has opset ${from} and functions of its own`)
  const axes = new Map<string, number[]>()
  const raised = raiseGraph(model.graph, { from, axes, rankOf })
  const initializer = [...axes].map(([name, values]) => ({
    name,
    dataType: dataTypes.int64,
    dims: [values.length],
    rawData: new Uint8Array(BigInt64Array.from(values, BigInt).buffer),
  }))
  return {
    ...model,
    irVersion: Math.max(model.irVersion, 8),
    opsetImport: [
      { domain: '', version: raisedOpset },
      ...model.opsetImport.filter((each) => !isStandard(each)),
    ],
    graph: { ...raised, initializer: [...(raised.initializer ?? []), ...initializer] },
  }
}

interface Raising {
  from: number
  /** Names and values of the vectors that become inputs. */
  axes: Map<string, number[]>
  rankOf: (tensor: string) => number | undefined
}

const raiseGraph = (graph: GraphProto, raising: Raising): GraphProto => ({
  ...graph,
  node: graph.node.map((node) => raiseNode(raiseBodies(node, raising), raising)),
})

function raiseBodies(node: NodeProto, raising: Raising): NodeProto {
  if (!node.attribute?.some(({ g }) => g)) return node
  const attribute = node.attribute.map((each) =>
    each.g ? { ...each, g: raiseGraph(each.g, raising) } : each,
  )
  return { ...node, attribute }
}

function raiseNode(node: NodeProto, raising: Raising): NodeProto {
  if (!isStandard(node)) return node
  const { from } = raising
  const { opType } = node
  if (notRaised.has(opType))
    throw new OpsetError(`its operator ${opType} has another meaning in newer opsets`)
  if (from < (axesSince[opType] ?? 0)) return attributeToInput(node, 'axes', raising)
  if (opType === 'Split') return raiseSplit(node, raising)
  if (from < 13 && (opType === 'Softmax' || opType === 'LogSoftmax')) return raiseSoftmax(node, raising)
  if (from < 12 && opType === 'Dropout') return { ...node, attribute: [] }
  return node
}

function attributeToInput(node: NodeProto, name: string, { axes }: Raising): NodeProto {
  const values = intsOf(node, name)
  if (!values) return node
  const input = `opset/${values.join(',')}`
  axes.set(input, values)
  return {
    ...node,
    input: [...node.input, input],
    attribute: node.attribute?.filter((each) => each.name !== name),
  }
}

function raiseSplit(node: NodeProto, raising: Raising): NodeProto {
  const sized = raising.from < 13 ? attributeToInput(node, 'split', raising) : node
  if (sized.input[1]) return sized
  const count: AttributeProto = { name: 'num_outputs', type: 2, i: node.output.length }
  return { ...sized, attribute: [...(sized.attribute ?? []), count] }
}

/** Before 13 all axes from the one given on were one; that is the same when it is the last. */
function raiseSoftmax(node: NodeProto, { rankOf }: Raising): NodeProto {
  const axis = intOf(node, 'axis') ?? 1
  if (axis !== -1 && axis !== (rankOf(node.input[0]!) ?? 0) - 1)
    throw new OpsetError(`its ${node.opType} runs over several axes`)
  return { ...node, attribute: [{ name: 'axis', type: 2, i: -1 }] }
}
