import * as ort from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { convertOpset, opsetOf } from './opset.ts'
import { sortNodes } from './order.ts'
import {
  type AttributeProto,
  encodeModel,
  type GraphProto,
  type ModelProto,
  type NodeProto,
} from './proto.ts'
import {
  consumersOf,
  dropAnnotations,
  nameSource,
  namesOf,
  outerNames,
  producersOf,
  renameGraph,
} from './rewrite.ts'
import { openSession } from './session.ts'
import { allNodes } from './visit.ts'

const node = (
  opType: string,
  input: string[],
  output: string[],
  attribute: AttributeProto[] = [],
): NodeProto => ({
  opType,
  input,
  output,
  attribute,
})
const float = (name: string, ...dims: number[]) => ({
  name,
  type: { tensorType: { elemType: 1, shape: { dim: dims.map((dimValue) => ({ dimValue })) } } },
})
const ints = (name: string, values: number[]): AttributeProto => ({ name, type: 7, ints: values })
const modelOf = (graph: Partial<GraphProto>, version = 17): ModelProto => ({
  irVersion: 7,
  opsetImport: [{ domain: '', version }],
  graph: { name: 'g', node: [], input: [], output: [], ...graph },
})

async function run(model: ModelProto, x: number[], dims: number[]) {
  const session = await openSession(encodeModel(model), '.', { intraOpNumThreads: 1, logSeverityLevel: 4 })
  const outputs = await session.run({ x: new ort.Tensor('float32', x, dims) })
  return session.outputNames.map((name) => {
    const { data, dims } = outputs[name]!
    return { data: Array.from(data as Float32Array, (value) => Number(value.toFixed(5))), dims: [...dims] }
  })
}

/** A body in disorder that reads `outer` and `late`. */
const body = (): GraphProto => ({
  name: 'b',
  node: [node('Add', ['inner', 'late'], ['sum']), node('Neg', ['outer'], ['inner'])],
  input: [],
  output: [float('sum', 1)],
  initializer: [{ name: 'own', dataType: 1, dims: [1], floatData: [1] }],
})
const holder = () =>
  node(
    'If',
    ['yes'],
    ['chosen'],
    [
      { name: 'then_branch', type: 5, g: body() },
      {
        name: 'else_branch',
        type: 5,
        g: renameGraph(body(), (name) => (name === 'outer' ? name : `e/${name}`)),
      },
    ],
  )

describe('names', () => {
  it('of a body are its own or come from around it', () => {
    expect(outerNames(body())).toEqual(new Set(['late', 'outer']))
    const graph = modelOf({ node: [holder()] }).graph
    expect(outerNames(graph)).toEqual(new Set(['yes', 'late', 'outer', 'e/late']))
    expect(namesOf(graph)).toContain('e/own')
    expect(producersOf(graph).get('chosen')!.opType).toBe('If')
    expect(
      consumersOf(graph)
        .get('late')!
        .map(({ opType }) => opType),
    ).toEqual(['If'])
  })

  it('that are renamed are so in bodies too; empty ones stay empty', () => {
    const { graph } = modelOf({
      node: [holder(), node('Clip', ['chosen', '', 'most'], ['y'])],
      output: [float('y', 1)],
      sparseInitializer: [
        {
          values: { name: 's', dataType: 1, dims: [1], floatData: [1] },
          indices: { name: '', dataType: 7, dims: [1], int64Data: [0] },
          dims: [2],
        },
      ],
      valueInfo: [float('chosen', 1)],
    })
    const renamed = renameGraph(graph, (name) => `p/${name}`)
    expect(renamed.node[1]).toMatchObject({ name: 'p/y', input: ['p/chosen', '', 'p/most'], output: ['p/y'] })
    expect([...namesOf(renamed)].every((name) => name.startsWith('p/'))).toBe(true)
    expect(outerNames(renamed)).toEqual(new Set([...outerNames(graph)].map((name) => `p/${name}`)))
    expect(renamed.sparseInitializer![0]!.values.name).toBe('p/s')
    expect(graph.node[0]!.output).toEqual(['chosen'])
  })

  it('are given once', () => {
    const unique = nameSource(new Set(['a', 'a_1']))
    expect([unique('a'), unique('a'), unique('b')]).toEqual(['a_2', 'a_3', 'b'])
  })
})

describe('sortNodes', () => {
  it('puts nodes behind those that they read, in bodies too', () => {
    const { graph } = modelOf({
      node: [
        node('Neg', ['chosen'], ['y']),
        holder(),
        node('Abs', ['x'], ['late']),
        node('Abs', ['late'], ['outer']),
      ],
    })
    sortNodes(graph)
    expect(graph.node.map(({ output }) => output[0])).toEqual(['late', 'outer', 'chosen', 'y'])
    expect(graph.node[2]!.attribute![0]!.g!.node.map(({ output }) => output[0])).toEqual(['inner', 'sum'])
  })

  it('keeps nodes that are in order, however many', () => {
    const nodes = Array.from({ length: 20_000 }, (_, i) => node('Neg', [`v${i}`], [`v${i + 1}`]))
    const { graph } = modelOf({ node: [...nodes] })
    sortNodes(graph)
    expect(graph.node).toEqual(nodes)
    graph.node = nodes.toReversed()
    sortNodes(graph)
    expect(graph.node).toEqual(nodes)
  })

  it('refuses a circle in one line', () => {
    const { graph } = modelOf({ node: [node('Neg', ['b'], ['a']), node('Neg', ['a'], ['b'])] })
    expect(() => sortNodes(graph)).toThrow(
      /^The graph is circular at the node "[ab]"\. Pull the model again\.$/,
    )
  })
})

describe('dropAnnotations', () => {
  it('leaves what computes', () => {
    const told = { docString: 'd', metadataProps: [{ key: 'k', value: '/home/me' }] }
    const model: ModelProto = {
      ...modelOf({
        node: [{ ...holder(), ...told }],
        input: [{ ...float('x', 1), ...told }],
        valueInfo: [float('inner', 1)],
        ...told,
      }),
      functions: [
        {
          name: 'F',
          domain: 'd',
          input: [],
          output: [],
          node: [{ ...holder(), ...told }],
          opsetImport: [],
          ...told,
        },
      ],
      ...told,
    }
    dropAnnotations(model)
    expect(JSON.stringify(model)).not.toMatch(/docString|metadataProps|valueInfo/)
    expect([...allNodes(model)]).toHaveLength(10)
  })
})

describe('convertOpset', () => {
  const cases: [string, number, NodeProto[], number[], number[], number[][]][] = [
    ['Squeeze', 11, [node('Squeeze', ['x'], ['y'], [ints('axes', [0])])], [1, 2], [1, 2], [[2]]],
    ['Squeeze of all', 11, [node('Squeeze', ['x'], ['y'])], [1, 2], [1, 2], [[2]]],
    ['Unsqueeze', 11, [node('Unsqueeze', ['x'], ['y'], [ints('axes', [0])])], [1, 2], [2], [[1, 2]]],
    ['ReduceMean', 13, [node('ReduceMean', ['x'], ['y'], [ints('axes', [-1])])], [1, 3], [1, 2], [[1, 1]]],
    ['ReduceSum', 11, [node('ReduceSum', ['x'], ['y'], [ints('axes', [1])])], [1, 3], [1, 2], [[1, 1]]],
    ['Split in equal parts', 13, [node('Split', ['x'], ['y', 'z'])], [1, 2, 3, 4], [4], [[2], [2]]],
    ['Split', 11, [node('Split', ['x'], ['y', 'z'], [ints('split', [1, 3])])], [1, 2, 3, 4], [4], [[1], [3]]],
    [
      'Softmax of a flattened tensor',
      11,
      [node('Softmax', ['x'], ['y'], [{ name: 'axis', type: 2, i: 1 }])],
      [1, 2, 3, 4],
      [1, 2, 2],
      [[1, 2, 2]],
    ],
    [
      'Softmax of its last axis',
      11,
      [node('Softmax', ['x'], ['y'], [{ name: 'axis', type: 2, i: -1 }])],
      [1, 2, 3, 4],
      [2, 2],
      [[2, 2]],
    ],
    [
      'Dropout',
      11,
      [node('Dropout', ['x'], ['y'], [{ name: 'ratio', type: 1, f: 0.5 }])],
      [1, 2],
      [2],
      [[2]],
    ],
  ]
  it.each(cases)('of %s computes the same', async (_, from, nodes, x, dims, shapes) => {
    const output = nodes.at(-1)!.output.map((name, i) => float(name, ...shapes[i]!))
    const make = () => modelOf({ node: structuredClone(nodes), input: [float('x', ...dims)], output }, from)
    const original = make()
    const converted = convertOpset(original, 23)
    expect(original).toEqual(make())
    expect(opsetOf(converted)).toBe(23)
    expect(await run(converted, x, dims)).toEqual(await run(make(), x, dims))
  })

  it('reaches bodies, and leaves what is as new or of another domain', () => {
    const model = modelOf({ node: [holder()] }, 13)
    model.graph.node[0]!.attribute![0]!.g!.node.push(node('ReduceMax', ['x'], ['m'], [ints('axes', [0])]), {
      ...node('ReduceMax', ['x'], ['n'], [ints('axes', [0])]),
      domain: 'own',
    })
    const converted = convertOpset(model, 18)
    const [, , own, foreign] = converted.graph.node[0]!.attribute![0]!.g!.node
    expect(own!.input).toHaveLength(2)
    expect(foreign!.input).toHaveLength(1)
    expect(convertOpset(converted, 14)).toBe(converted)
    expect(opsetOf(converted)).toBe(18)
  })

  it('refuses what it cannot convert in one line', () => {
    const convert = (from: number, opType: string) =>
      convertOpset(modelOf({ node: [node(opType, ['x'], ['y'])] }, from), 20)
    expect(() => convert(9, 'Add')).toThrow(/version 9 of ONNX's operators; 11 and newer/)
    expect(() => convert(17, 'GridSample')).toThrow(
      /GridSample of version 17, which is not known to compute the same in version 20$/,
    )
  })
})
