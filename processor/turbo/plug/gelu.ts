import { runtimeDomain } from '../../onnx/operators.ts'
import type { NodeProto } from '../../onnx/proto.ts'
import type { Encoder } from './encoder.ts'

/** A number computed from another. */
type Formula = (x: number) => number

const binary: Readonly<Record<string, (a: number, b: number) => number>> = {
  Add: (a, b) => a + b,
  Sub: (a, b) => a - b,
  Mul: (a, b) => a * b,
  Div: (a, b) => a / b,
  Pow: (a, b) => a ** b,
}

const gelu: Formula = (x) => 0.5 * x * (1 + Math.tanh(Math.sqrt(2 / Math.PI) * (x + 0.044715 * x ** 3)))
const samples = [-4, -2.5, -1, -0.3, 0, 0.2, 0.9, 1.7, 3, 5]

/**
 * GELU written out with a hyperbolic tangent, as one operator: ONNX Runtime knows only some of the ways to write it,
 * and otherwise passes over the largest tensors of a block eight times. What a chain of nodes computes is told by its
 * values, so that the order in which an exporter writes it does not matter.
 *
 * @returns the operator for each node that it takes the place of
 */
export function findGelus(encoder: Encoder): Map<NodeProto, NodeProto> {
  const found = new Map<NodeProto, NodeProto>()
  for (const node of encoder.view.graph.node) {
    if (node.opType !== 'Tanh' || !encoder.isPixels(node.input[0]!)) continue
    const match = geluAround(encoder, node)
    if (!match) continue
    const { last, x } = match
    const name = last.name || last.output[0]!
    found.set(last, {
      opType: 'FastGelu',
      domain: runtimeDomain,
      name,
      input: [x],
      output: [last.output[0]!],
    })
  }
  return found
}

function geluAround(encoder: Encoder, tanh: NodeProto): { last: NodeProto; x: string } | undefined {
  const sources = sourcesOf(encoder, tanh.input[0]!)
  let [last] = encoder.view.consumers(tanh.output[0]!)
  for (let steps = 0; steps < 4 && last; steps++) {
    for (const x of sources) {
      const formula = formulaOf(encoder, last.output[0]!, x, 12)
      if (formula && samples.every((sample) => Math.abs(formula(sample) - gelu(sample)) < 1e-5))
        return { last, x }
    }
    last = encoder.view.consumers(last.output[0]!)[0]
  }
  return undefined
}

/** Tensors behind a tensor, as far as elementwise operators reach. */
function sourcesOf(encoder: Encoder, tensor: string): string[] {
  const found = new Set([tensor])
  for (const name of found) {
    const node = encoder.view.producer(name)
    if (!node || !(node.opType in binary) || found.size > 12) continue
    for (const input of node.input) if (encoder.isPixels(input)) found.add(input)
  }
  return [...found]
}

/** What a tensor's elements are as a formula of those of `x`, where elementwise operators make them. */
function formulaOf(encoder: Encoder, tensor: string, x: string, depth: number): Formula | undefined {
  if (tensor === x) return (value) => value
  const constant = encoder.isPixels(tensor) ? undefined : encoder.scalar(tensor)
  if (constant !== undefined) return () => constant
  const node = encoder.view.producer(tensor)
  if (!node || depth === 0) return undefined
  const [a, b] = node.input.map((input) => formulaOf(encoder, input, x, depth - 1))
  const operator = binary[node.opType]
  if (a && node.opType === 'Tanh') return (value) => Math.tanh(a(value))
  return a && b && operator ? (value) => operator(a(value), b(value)) : undefined
}
