import type { GraphProto, NodeProto } from './proto.ts'
import { readBy } from './view.ts'

/**
 * Nodes so that each comes behind those that make what it reads; otherwise in the order of the file. Converters to
 * float16 append their casts at the end.
 * @throws Error when nodes read in a circle
 */
export function inOrder({ node: nodes }: GraphProto): NodeProto[] {
  const makers = new Map(nodes.flatMap((node) => node.output.map((name) => [name, node] as const)))
  const done = new Set<NodeProto>()
  const open = new Set<NodeProto>()
  const sorted: NodeProto[] = []
  for (const root of nodes) {
    const stack = [root]
    while (stack.length > 0) {
      const node = stack.at(-1)!
      if (done.has(node)) {
        stack.pop()
        continue
      }
      const missing = readBy(node)
        .map((name) => makers.get(name))
        .filter((maker) => maker !== undefined && !done.has(maker)) as NodeProto[]
      if (missing.some((maker) => open.has(maker) || maker === node))
        throw new Error('its nodes read in a circle')
      if (missing.length > 0) {
        open.add(node)
        stack.push(missing[0]!)
        continue
      }
      stack.pop()
      open.delete(node)
      done.add(node)
      sorted.push(node)
    }
  }
  return sorted
}

/** Nodes that the outputs need. */
export function neededNodes(nodes: readonly NodeProto[], outputs: Iterable<string>): NodeProto[] {
  const wanted = new Set(outputs)
  const needed = nodes.toReversed().filter((node) => {
    if (!node.output.some((name) => wanted.has(name))) return false
    for (const name of readBy(node)) wanted.add(name)
    return true
  })
  return needed.toReversed()
}
