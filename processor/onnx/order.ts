import type { GraphProto, NodeProto } from './proto.ts'
import { namesRead, producersOf } from './rewrite.ts'
import { bodiesOf } from './visit.ts'
import { ModelFolderError } from './weights.ts'

/**
 * Nodes so that each comes behind those that make what it reads; nodes that are in order keep it. Converters append nodes at
 * the end.
 * @throws ModelFolderError when values depend on themselves
 */
export function inOrder(graph: GraphProto): NodeProto[] {
  const producers = producersOf(graph)
  const sorted: NodeProto[] = []
  const state = new Map<NodeProto, 'open' | 'done'>()
  // A stack of its own: a chain of a hundred thousand nodes would overflow the call stack.
  for (const start of graph.node) {
    const stack = [start]
    while (stack.length > 0) {
      const node = stack.at(-1)!
      if (state.get(node) === undefined) {
        state.set(node, 'open')
        const needed = namesRead(node).map((name) => producers.get(name))
        for (const other of needed.reverse()) {
          if (other === undefined || state.get(other) === 'done') continue
          if (state.get(other) === 'open')
            throw new ModelFolderError(
              `The graph is circular at the node ${JSON.stringify(node.name ?? node.output[0] ?? '')}. Pull the model again.`,
            )
          stack.push(other)
        }
      } else {
        stack.pop()
        if (state.get(node) === 'open') sorted.push(node)
        state.set(node, 'done')
      }
    }
  }
  return sorted
}

/** Brings the nodes of a graph and of its bodies into order, which bodies must have. In place. @throws ModelFolderError */
export function sortNodes(graph: GraphProto): void {
  graph.node = inOrder(graph)
  for (const node of graph.node) for (const body of bodiesOf(node)) sortNodes(body)
}

/** Nodes that the outputs need. */
export function neededNodes(nodes: readonly NodeProto[], outputs: Iterable<string>): NodeProto[] {
  const wanted = new Set(outputs)
  const needed = nodes.toReversed().filter((node) => {
    if (!node.output.some((name) => wanted.has(name))) return false
    for (const name of namesRead(node)) wanted.add(name)
    return true
  })
  return needed.toReversed()
}
