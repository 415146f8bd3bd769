import { Tensor } from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { convertOpset, opsetOf } from './opset.ts'
import { type AttributeProto, dataTypes, encodeModel, type ModelProto, type NodeProto } from './proto.ts'
import { openSession } from './session.ts'

const ints = (name: string, values: number[]): AttributeProto => ({ name, type: 7, ints: values })
const int = (name: string, i: number): AttributeProto => ({ name, type: 2, i })

/** A model of one input `x float32 [2, 1, 4]` in which every node reads x. */
function modelOf(version: number, nodes: Omit<NodeProto, 'input'>[]): ModelProto {
  const outputs = nodes.flatMap(({ output }) => output)
  return {
    irVersion: 8,
    opsetImport: [{ domain: '', version }],
    graph: {
      name: 'g',
      node: nodes.map((node) => ({ ...node, input: ['x'] })),
      input: [
        {
          name: 'x',
          type: {
            tensorType: {
              elemType: dataTypes.float32,
              shape: { dim: [2, 1, 4].map((dimValue) => ({ dimValue })) },
            },
          },
        },
      ],
      output: outputs.map((name) => ({ name })),
    },
  }
}

async function run(model: ModelProto) {
  const session = await openSession(encodeModel(model), '.')
  const results = await session.run({
    x: new Tensor('float32', Float32Array.from([3, -1, 4, 1, -5, 9, 2, 6]), [2, 1, 4]),
  })
  await session.release()
  return Object.fromEntries(Object.entries(results).map(([name, { dims, data }]) => [name, { dims, data }]))
}

const spellings: Omit<NodeProto, 'input'>[] = [
  { opType: 'Squeeze', output: ['squeezed'], attribute: [ints('axes', [1])] },
  { opType: 'Unsqueeze', output: ['unsqueezed'], attribute: [ints('axes', [0, 3])] },
  { opType: 'ReduceSum', output: ['sum'], attribute: [ints('axes', [2]), int('keepdims', 0)] },
  { opType: 'ReduceMean', output: ['mean'], attribute: [ints('axes', [-1])] },
  { opType: 'ReduceMax', output: ['largest'] },
  { opType: 'Split', output: ['a', 'b'], attribute: [int('axis', 0)] },
  { opType: 'Split', output: ['c', 'd'], attribute: [int('axis', 2), ints('split', [1, 3])] },
  { opType: 'Softmax', output: ['soft'], attribute: [int('axis', 2)] },
  { opType: 'Dropout', output: ['same'], attribute: [{ name: 'ratio', type: 1, f: 0.5 }] },
]

const rankOf = () => 3

describe('convertOpset with known ranks', () => {
  it('writes operators of opset 11 so that they mean the same in 18', async () => {
    const old = modelOf(11, spellings)
    const raised = convertOpset(old, 18, { rankOf })
    expect(opsetOf(raised)).toBe(18)
    expect(raised.graph.node).toHaveLength(old.graph.node.length)
    expect(await run(raised)).toEqual(await run(old))
  })

  it('leaves newer models alone', () => {
    const model = modelOf(20, [{ opType: 'Relu', output: ['y'] }])
    expect(convertOpset(model, 18, { rankOf })).toBe(model)
  })

  it.each<[string, ModelProto, RegExp]>([
    [
      'a softmax over several axes',
      modelOf(11, [{ opType: 'Softmax', output: ['y'] }]),
      /Softmax of version 11/,
    ],
    ['an operator with another meaning', modelOf(15, [{ opType: 'RoiAlign', output: ['y'] }]), /RoiAlign/],
    ['a version too old', modelOf(9, [{ opType: 'Relu', output: ['y'] }]), /version 9/],
  ])('refuses %s', (_, model, reason) => {
    expect(() => convertOpset(model, 18, { rankOf })).toThrow(reason)
  })
})
