import * as ort from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import { Graph } from './graph.ts'
import type { Int, Value } from './operators.ts'
import { decodeModel } from './proto.ts'
import { openSession } from './session.ts'

const ints = (dims: number[], values: number[]) =>
  new ort.Tensor('int64', BigInt64Array.from(values, BigInt), dims)

/** Runs a graph of one output; numbers and dims of what it answers. */
async function evaluate(build: (g: Graph) => Value, feeds: Record<string, ort.Tensor> = {}) {
  const g = new Graph()
  g.output('result', build(g), [])
  // The declared shape is a placeholder: the values say what was computed.
  const session = await openSession(g.toModel(), '.', { intraOpNumThreads: 1, logSeverityLevel: 4 })
  const { result } = await session.run(feeds)
  return { values: Array.from(result!.data as Float32Array | BigInt64Array, Number), dims: [...result!.dims] }
}

describe('toModel', () => {
  it('declares inputs and outputs with their names, types and sizes', () => {
    const g = new Graph()
    const x = g.input('x', 'float32', ['B', 4])
    g.output('y', g.softmax(x), ['B', 4])
    const { graph, opsetImport } = decodeModel(g.toModel())
    expect(opsetImport.map(({ domain }) => domain)).toEqual(['', 'com.microsoft'])
    const value = (name: string) => ({
      name,
      type: { tensorType: { elemType: 1, shape: { dim: [{ dimParam: 'B' }, { dimValue: 4 }] } } },
    })
    expect(graph.input).toMatchObject([value('x')])
    expect(graph.output).toMatchObject([value('y')])
    expect(graph.node.map(({ opType }) => opType)).toEqual(['Softmax', 'Identity'])
    expect(graph.node[0]!.attribute).toMatchObject([{ name: 'axis', i: -1 }])
    expect(graph.node[1]!.input).toEqual(graph.node[0]!.output)
  })

  it('stores equal constants once, a scalar apart from a vector of one', () => {
    const g = new Graph()
    const names = [g.ints(3), g.ints(3), g.ints([3]), g.floats(3)].map(({ name }) => name)
    expect(new Set(names).size).toBe(3)
    expect(decodeModel(g.toModel()).graph.initializer!.map(({ dims }) => dims)).toEqual([[], [1], []])
  })

  it('gives a branch its constants, and what is in files to all, under names of their own', () => {
    const g = new Graph()
    const yes = g.input('yes', 'bool', [])
    const place = { location: 'w.bin', offset: 4, length: 8 }
    const side = (name: string, value: number) => (body: Graph) =>
      body.output(name, body.mul(body.floats(value), body.external('float32', [2], place)), [2])
    const [chosen] = g.branch(yes, ['float32'], side('a', 1), side('b', 2))
    g.output('y', chosen, [2])
    const { node, initializer = [] } = decodeModel(g.toModel()).graph
    const constants = node[0]!.attribute!.flatMap(({ g: body }) => body!.initializer!)
    expect(constants).toHaveLength(2)
    expect(initializer.map(({ dataLocation }) => dataLocation)).toEqual([1, 1])
    expect(new Set([...constants, ...initializer].map(({ name }) => name)).size).toBe(4)
  })

  it('points to external data by offset and length', () => {
    const g = new Graph()
    g.output('y', g.external('float32', [2], { location: 'w.bin', offset: 4, length: 8 }), [2])
    const [tensor] = decodeModel(g.toModel()).graph.initializer!
    expect(tensor).toMatchObject({
      dataLocation: 1,
      externalData: [
        { key: 'location', value: 'w.bin' },
        { key: 'offset', value: '4' },
        { key: 'length', value: '8' },
      ],
    })
  })
})

describe('operators', () => {
  it('gemm multiplies by the weight as PyTorch stores it', async () => {
    const answer = await evaluate((g) =>
      g.gemm(g.floats([1, 2], [1, 2]), g.floats([3, 4, 5, 6, 7, 8], [3, 2]), g.floats([0.5, 0, -1])),
    )
    expect(answer).toEqual({ values: [11.5, 17, 22], dims: [1, 3] })
  })

  it('biasGelu is the exact one, of the sum', async () => {
    const { values } = await evaluate((g) => g.biasGelu(g.floats([0.5, -1.5], [1, 2]), g.floats([0.5, 0.5])))
    expect(values[0]).toBeCloseTo(0.8413447, 6)
    expect(values[1]).toBeCloseTo(-0.1586553, 6)
  })

  it('layerNorm uses the epsilon given', async () => {
    const { values } = await evaluate((g) =>
      g.layerNorm(g.floats([1, 3], [1, 2]), g.floats([1, 1]), g.floats([0, 10]), 3),
    )
    expect(values[0]).toBeCloseTo(-0.5)
    expect(values[1]).toBeCloseTo(10.5)
  })

  it('slice takes every step-th row to an end or to the last', async () => {
    const x = (g: Graph) => g.floats([0, 1, 2, 3, 4])
    expect((await evaluate((g) => g.slice(x(g), 0, 1, undefined, 2))).values).toEqual([1, 3])
    expect((await evaluate((g) => g.slice(x(g), 0, 1, 3))).values).toEqual([1, 2])
    expect((await evaluate((g) => g.slice(x(g), 0, -1))).values).toEqual([4])
  })

  it('topK takes the lower index first among equals', async () => {
    const { values } = await evaluate((g) => g.topK(g.floats([1, 5, 5, 5, 2], [1, 5]), g.ints([2])).indices)
    expect(values.toSorted()).toEqual([1, 2])
  })

  it('oneHot, compress and range place tokens', async () => {
    expect(await evaluate((g) => g.oneHot(g.ints([2, 0]), g.ints([3]), 0))).toEqual({
      values: [0, 1, 0, 0, 1, 0],
      dims: [3, 2],
    })
    const even = (g: Graph) => g.equal(g.ints([0, 1, 0]), g.ints([0]))
    expect((await evaluate((g) => g.compress(g.ints([7, 8, 9]), even(g)))).values).toEqual([7, 9])
    expect((await evaluate((g) => g.range(g.ints(3)))).values).toEqual([0, 1, 2])
  })

  it('all is true only when everything is', async () => {
    const allEqual = (a: number[]) => (g: Graph) => g.cast(g.all(g.equal(g.ints(a), g.ints(1))), 'int64')
    expect((await evaluate(allEqual([1, 1]))).values).toEqual([1])
    expect((await evaluate(allEqual([1, 0]))).values).toEqual([0])
  })

  it('cast leaves a value of that type as it is', () => {
    const g = new Graph()
    const x = g.input('x', 'float32', [1])
    expect(g.cast(x, 'float32')).toBe(x)
    expect(g.cast(x, 'float16').type).toBe('float16')
  })
})

describe('branch', () => {
  it('runs one side, which sees the values around it', async () => {
    const choose = (x: number) =>
      evaluate(
        (g) => {
          const value = g.input('x', 'int64', [])
          const [chosen] = g.branch(
            g.less(value, g.ints(0)),
            ['int64'],
            (body) => body.output(body.uniqueName('negated'), body.sub(body.ints(0), value), []),
            (body) => body.output(body.uniqueName('same'), value, []),
          )
          return chosen
        },
        { x: ints([], [x]) },
      )
    expect((await choose(-4)).values).toEqual([4])
    expect((await choose(4)).values).toEqual([4])
  })
})

describe('loop', () => {
  /** Doubles x until it is not below 20, at most `trips` times: the last value, then all. */
  const doubling = (pick: (outputs: { last: Int; all: Int }) => Int, trips: number) =>
    evaluate(
      (g) => {
        const [last, all] = g.loop(g.ints(trips), [g.input('x', 'int64', [])], ['int64', 'int64'], (body) => {
          body.input(body.uniqueName('round'), 'int64', [])
          body.input(body.uniqueName('going'), 'bool', [])
          const x = body.input(body.uniqueName('x'), 'int64', [])
          const twice = body.add(x, x)
          body.output(body.uniqueName('going'), body.less(twice, g.ints(20)), [])
          body.output(body.uniqueName('x'), twice, [])
          body.output(body.uniqueName('each'), twice, [])
        })
        return pick({ last, all })
      },
      { x: ints([], [3]) },
    )

  it('stops at its condition and stacks the scans', async () => {
    expect((await doubling(({ last }) => last, 10)).values).toEqual([24])
    expect((await doubling(({ all }) => all, 10)).values).toEqual([6, 12, 24])
  })

  it('stops after so many rounds', async () => {
    expect((await doubling(({ all }) => all, 2)).values).toEqual([6, 12])
  })
})
