import { intOf, isStandard } from './attributes.ts'
import { dataTypes, type GraphProto, type NodeProto, type TensorProto } from './proto.ts'
import { namesRead } from './rewrite.ts'

/** Operators whose result has a size that hangs on numbers. */
const sizedByNumbers = new Set(['NonZero', 'Compress', 'Unique', 'NonMaxSuppression', 'If', 'Loop', 'Scan'])
/** Operators whose result hangs on nothing but sizes. */
const readingSizes = new Set(['Shape', 'Size'])
/** Operators that give a tensor of the size and type of their input, number by number or row by row. */
const sameSize = new Set(['Softmax', 'Tanh', 'Erf', 'Exp', 'Sigmoid', 'Gelu'])
const products = new Set(['MatMul', 'Gemm'])

const first: TensorProto = {
  name: 'sizes/first',
  dataType: dataTypes.int64,
  dims: [1],
  rawData: new Uint8Array(BigInt64Array.of(0n).buffer),
}

/**
 * A graph for runs that ask for sizes: its products sum one term in place of all, and what would be computed number by
 * number is passed on, so that every tensor has the size that it had for a small part of the work.
 *
 * @param tensors whose numbers nobody asks for; others keep theirs
 * @returns the same graph where a size may hang on the numbers of one of them
 */
export function sizesOnly(graph: GraphProto, tensors: ReadonlySet<string>): GraphProto {
  const axes = new Map((graph.initializer ?? []).map(({ name, dims }) => [name, dims.length]))
  const isQuickened = (node: NodeProto) =>
    isStandard(node) &&
    node.output.every((name) => tensors.has(name)) &&
    (sameSize.has(node.opType) ||
      (products.has(node.opType) && node.input.slice(0, 2).every((name) => (axes.get(name) ?? 2) > 1)))
  const changed = graph.node.filter(isQuickened)
  if (changed.length === 0 || makesSizes(graph, changed)) return graph
  const node = graph.node.flatMap((each) => (isQuickened(each) ? quickened(each) : [each]))
  return { ...graph, node, initializer: [...(graph.initializer ?? []), first] }
}

/** Whether a size hangs on the numbers that the nodes make. */
function makesSizes(graph: GraphProto, nodes: NodeProto[]): boolean {
  const found = new Set(nodes.flatMap(({ output }) => output))
  for (const node of graph.node) {
    if (readingSizes.has(node.opType) || !namesRead(node).some((name) => found.has(name))) continue
    if (sizedByNumbers.has(node.opType)) return true
    for (const name of node.output) found.add(name)
  }
  return false
}

function quickened(node: NodeProto): NodeProto[] {
  if (sameSize.has(node.opType)) return [{ opType: 'Identity', input: [node.input[0]!], output: node.output }]
  const summed =
    node.opType === 'MatMul' ? [-1, -2] : [intOf(node, 'transA') ? 0 : 1, intOf(node, 'transB') ? 1 : 0]
  const terms = summed.map(
    (axis, i): NodeProto => ({
      opType: 'Gather',
      input: [node.input[i]!, first.name],
      output: [`sizes/${i}/${node.output[0]}`],
      attribute: [{ name: 'axis', type: 2, i: axis }],
    }),
  )
  return [...terms, { ...node, input: [...terms.map(({ output }) => output[0]!), ...node.input.slice(2)] }]
}
