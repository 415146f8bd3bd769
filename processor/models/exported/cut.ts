import type { NodeProto } from '../../onnx/proto.ts'
import type { ExportedPart } from './part.ts'

/** Between the output layer and the logits: element by element. */
const elementwise = new Set(['Cast', 'Add', 'Sub', 'Mul', 'Div', 'Tanh', 'Identity'])
const outputLayers = new Set(['MatMul', 'MatMulNBits', 'MatMulBnb4', 'FusedMatMul'])

/** Name of the input that a cut decoder takes: `int64 [B, 1]`, the place of each row's last id. */
export const lastInput = 'turbine:last'

/**
 * Lets a decoder compute logits for one position of each row: the hidden states are cut before the output layer, which
 * is most of the work for a long prompt. In place.
 * @returns false when the output layer was not found
 */
export function cutBeforeOutputLayer(decoder: ExportedPart): boolean {
  const layer = outputLayer(decoder)
  if (!layer) return false
  const hidden = layer.input[0]!
  const [axis, index, cut] = ['axis', 'index', 'cut'].map((name) => `turbine:${name}`)
  const { graph } = decoder
  graph.initializer = [
    ...(graph.initializer ?? []),
    { name: axis!, dataType: 7, dims: [1], rawData: new Uint8Array(BigInt64Array.of(2n).buffer) },
  ]
  const nodes: NodeProto[] = [
    { opType: 'Unsqueeze', input: [lastInput, axis!], output: [index!] },
    {
      opType: 'GatherND',
      input: [hidden, index!],
      output: [cut!],
      attribute: [{ name: 'batch_dims', type: 2, i: 1 }],
    },
  ]
  graph.node = graph.node.flatMap((node) =>
    node === layer ? [...nodes, { ...node, input: [cut!, ...node.input.slice(1)] }] : [node],
  )
  return true
}

function outputLayer(decoder: ExportedPart): NodeProto | undefined {
  const producers = decoder.producers()
  const computed = (name: string) => {
    const node = producers.get(name)
    return node !== undefined && node.opType !== 'Constant'
  }
  let name = 'logits'
  for (;;) {
    const node = producers.get(name)
    if (!node) return undefined
    if (outputLayers.has(node.opType)) return computed(node.input[0]!) ? node : undefined
    const inputs = node.input.filter(computed)
    if (!elementwise.has(node.opType) || inputs.length !== 1) return undefined
    name = inputs[0]!
  }
}
