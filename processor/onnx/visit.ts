import type {
  AttributeProto,
  GraphProto,
  ModelProto,
  NodeProto,
  SparseTensorProto,
  TensorProto,
} from './proto.ts'

/** Graphs inside of a node: branches and loop bodies. */
export function bodiesOf(node: NodeProto): GraphProto[] {
  return (node.attribute ?? []).flatMap(({ g, graphs }) => [...(g ? [g] : []), ...(graphs ?? [])])
}

/** A graph, and all graphs inside of its nodes. */
export function* allGraphs(graph: GraphProto): Generator<GraphProto> {
  yield graph
  for (const node of graph.node) for (const body of bodiesOf(node)) yield* allGraphs(body)
}

/** All nodes of a model: of its graph, its bodies, and its functions. */
export function* allNodes(model: ModelProto): Generator<NodeProto> {
  for (const graph of allGraphs(model.graph)) yield* graph.node
  for (const { node } of model.functions ?? [])
    for (const each of node) {
      yield each
      for (const body of bodiesOf(each)) for (const inner of allGraphs(body)) yield* inner.node
    }
}

/** All tensors that a model holds or points to. */
export function* allTensors(model: ModelProto): Generator<TensorProto> {
  for (const graph of allGraphs(model.graph)) yield* graphTensors(graph)
  for (const { node, attributeProto } of model.functions ?? []) {
    yield* attributeTensors(attributeProto)
    for (const each of node)
      for (const body of bodiesOf(each)) for (const g of allGraphs(body)) yield* graphTensors(g)
  }
  for (const node of allNodes(model)) yield* attributeTensors(node.attribute)
}

function* graphTensors({ initializer = [], sparseInitializer = [] }: GraphProto): Generator<TensorProto> {
  yield* initializer
  yield* sparseInitializer.flatMap(partsOf)
}

function* attributeTensors(attributes: AttributeProto[] = []): Generator<TensorProto> {
  for (const { t, tensors = [], sparseTensor, sparseTensors = [] } of attributes) {
    if (t) yield t
    yield* tensors
    if (sparseTensor) yield* partsOf(sparseTensor)
    yield* sparseTensors.flatMap(partsOf)
  }
}

const partsOf = ({ values, indices }: SparseTensorProto): TensorProto[] =>
  [values, indices].filter((tensor) => tensor !== undefined)
