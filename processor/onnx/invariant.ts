import type { NodeProto } from './proto.ts'
import { namesRead } from './rewrite.ts'

export interface LoopNames {
  /** What is another in every round: the inputs of the body. */
  changing: Iterable<string>
  /** What the body gives out: it has to make that itself. */
  given: Iterable<string>
  /** Weights and constants. What is made of them alone stays: ONNX Runtime computes it when it opens the model. */
  constants: ReadonlySet<string>
}

/**
 * Nodes of a loop's body that give the same in every round, which can be computed once before the loop, and the others; both in
 * order. Nothing in exported models is random.
 */
export function splitInvariant(
  nodes: readonly NodeProto[],
  { changing, given, constants }: LoopNames,
): { once: NodeProto[]; everyRound: NodeProto[] } {
  const changed = new Set([...changing, ...given])
  const made = new Set(nodes.flatMap(({ output }) => output))
  /** Made of values around the loop. */
  const fixed = new Set<string>()
  const invariant = nodes.filter((node) => {
    const read = namesRead(node)
    const changes = read.some((name) => changed.has(name)) || node.output.some((name) => changed.has(name))
    for (const name of node.output) if (changes) changed.add(name)
    if (changes) return false
    if (read.some((name) => fixed.has(name) || !(made.has(name) || constants.has(name))))
      for (const name of node.output) fixed.add(name)
    return true
  })
  const needed = new Set<string>()
  const once = new Set(
    invariant.toReversed().filter((node) => {
      const moves = node.output.some((name) => fixed.has(name) || needed.has(name))
      if (moves) for (const name of namesRead(node)) needed.add(name)
      return moves
    }),
  )
  return { once: nodes.filter((node) => once.has(node)), everyRound: nodes.filter((node) => !once.has(node)) }
}
