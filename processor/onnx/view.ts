import type { GraphProto, NodeProto, TensorProto } from './proto.ts'
import { consumersOf, namesRead, producersOf } from './rewrite.ts'

/** Operators whose result says nothing of what their input's elements are as numbers: sizes, comparisons, places. */
const forgetful = new Set(
  `Shape Size Equal Less LessOrEqual Greater GreaterOrEqual Not And Or NonZero IsNaN IsInf ArgMax ArgMin`.split(
    ' ',
  ),
)

/** A graph's main scope with its edges: who makes a tensor, and who reads it. Nodes are in topological order. */
export class GraphView {
  readonly graph: GraphProto
  readonly #producers: ReadonlyMap<string, NodeProto>
  readonly #consumers: ReadonlyMap<string, readonly NodeProto[]>
  readonly constants: ReadonlyMap<string, TensorProto>
  readonly outputs: ReadonlySet<string>

  constructor(graph: GraphProto) {
    this.graph = graph
    this.constants = new Map((graph.initializer ?? []).map((tensor) => [tensor.name, tensor]))
    this.outputs = new Set(graph.output.map(({ name }) => name))
    this.#producers = producersOf(graph)
    this.#consumers = consumersOf(graph)
  }

  producer(tensor: string): NodeProto | undefined {
    return this.#producers.get(tensor)
  }

  consumers(tensor: string): readonly NodeProto[] {
    return this.#consumers.get(tensor) ?? []
  }

  /** Tensors whose elements depend on those of `from` as numbers; not those that only have a size from them. */
  dependents(from: Iterable<string>): Set<string> {
    const found = new Set(from)
    for (const node of this.graph.node) {
      if (forgetful.has(node.opType)) continue
      if (namesRead(node).some((name) => found.has(name)))
        for (const name of node.output) if (name) found.add(name)
    }
    return found
  }

  /** Nodes that a tensor is computed from. */
  ancestors(tensors: Iterable<string>): Set<NodeProto> {
    const found = new Set<NodeProto>()
    const open = [...tensors]
    while (open.length > 0) {
      const node = this.#producers.get(open.pop()!)
      if (!node || found.has(node)) continue
      found.add(node)
      open.push(...namesRead(node))
    }
    return found
  }
}
