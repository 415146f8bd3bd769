import { Tensor } from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { Probe } from './probe.ts'
import { type AttributeProto, dataTypes, type ModelProto, type NodeProto } from './proto.ts'
import { sizesOnly } from './sizes-only.ts'
import { GraphView } from './view.ts'

const int = (name: string, i: number): AttributeProto => ({ name, type: 2, i })
const node = (
  opType: string,
  input: string[],
  output: string,
  attribute: AttributeProto[] = [],
): NodeProto => ({
  opType,
  input,
  output: [output],
  attribute,
})
const weight = (name: string, ...dims: number[]) => ({
  name,
  dataType: dataTypes.float32,
  dims,
  rawData: new Uint8Array(new Float32Array(dims.reduce((a, b) => a * b, 1)).fill(1).buffer),
})

function modelOf(nodes: NodeProto[]): ModelProto {
  return {
    irVersion: 8,
    opsetImport: [{ domain: '', version: 17 }],
    graph: {
      name: 'g',
      node: nodes,
      input: [{ name: 'x', type: { tensorType: { elemType: dataTypes.float32 } } }],
      output: [{ name: nodes.at(-1)!.output[0]! }],
      initializer: [weight('wide', 4, 6), weight('turned', 6, 4), weight('line', 4)],
    },
  }
}

const feeds = {
  x: new Tensor(
    'float32',
    Float32Array.from({ length: 24 }, (_, i) => i - 9),
    [2, 3, 4],
  ),
}
const quick = (model: ModelProto) => sizesOnly(model.graph, new GraphView(model.graph).dependents(['x']))

const all: NodeProto[] = [
  node('MatMul', ['x', 'wide'], 'product'),
  node('Transpose', ['x'], 'transposed', [{ name: 'perm', type: 7, ints: [0, 2, 1] }]),
  node('MatMul', ['x', 'transposed'], 'logits'),
  node('Softmax', ['logits'], 'probabilities', [int('axis', -1)]),
  node('MatMul', ['probabilities', 'x'], 'mixed'),
  node('MatMul', ['x', 'line'], 'vector'),
  node('Flatten', ['x'], 'flat', [int('axis', 2)]),
  node('Gemm', ['flat', 'turned'], 'linear', [int('transB', 1)]),
  node('MatMul', ['turned', 'wide'], 'constant'),
]

describe('sizesOnly', () => {
  it('leaves every tensor its size', async () => {
    const model = modelOf(all)
    const graph = quick(model)
    expect(graph.node.length).toBeGreaterThan(all.length)
    const [expected, actual] = [
      await new Probe(model, feeds, '.').shapes(),
      await new Probe({ ...model, graph }, feeds, '.').shapes(),
    ]
    expect(expected.get('mixed')).toEqual([2, 3, 4])
    for (const [name, size] of expected) expect(actual.get(name), name).toEqual(size)
  })

  it('sums one term of each product, and leaves those of constants alone', () => {
    const { node: nodes } = quick(modelOf(all))
    const reads = (name: string) => nodes.find(({ output }) => output[0] === name)!.input
    for (const name of ['product', 'logits', 'mixed', 'linear'])
      expect(reads(name)[0], name).toMatch(/^sizes\//)
    for (const name of ['vector', 'constant']) expect(reads(name)[0], name).not.toMatch(/^sizes\//)
  })

  it.each([
    ['what is not zero in a product', node('NonZero', ['product'], 'places')],
    ['an element of a softmax that is chosen', node('Compress', ['probabilities', 'chosen'], 'places')],
  ])('changes nothing where a size hangs on %s', (_, last) => {
    const chosen = [
      node('ReduceMax', ['product'], 'most', [int('keepdims', 1)]),
      node('Greater', ['most', 'most'], 'greater'),
      node('Flatten', ['greater'], 'chosen'),
    ]
    const { graph } = modelOf([...all, ...chosen, last])
    expect(sizesOnly(graph, new GraphView(graph).dependents(['x']))).toBe(graph)
  })
})

describe('Probe', () => {
  it('tells sizes of scalars, of nothing and of many tensors', async () => {
    const model = modelOf([
      node('ReduceSum', ['x'], 'sum', [int('keepdims', 0)]),
      node('Shape', ['x'], 'size'),
      node('NonZero', ['x'], 'places'),
      node('Sub', ['x', 'x'], 'zeros'),
      node('NonZero', ['zeros'], 'none'),
    ])
    const shapes = await new Probe(model, feeds, '.').shapes()
    expect(Object.fromEntries(shapes)).toMatchObject({
      x: [2, 3, 4],
      sum: [],
      size: [3],
      places: [3, 23],
      none: [3, 0],
      line: [4],
    })
  })
})
