import * as ort from 'onnxruntime-node'
import { beforeAll, describe, expect, it } from 'vitest'
import { Graph } from '../onnx/graph.ts'
import { openSession } from '../onnx/session.ts'
import { sharedPlaces, turboMerge } from './merge.ts'
import { type ReferenceTokens, referenceMerge } from './reference.fixture.ts'
import type { TurboMode } from './schedule.ts'

const heads = 2
const headWidth = 3
const width = 5
const scale = headWidth ** -0.5
const entered = 40

type Score = 'turbo' | 'attention' | 'random'
type Case = { n: number; batch: number; r: number; weight: number; tied?: boolean; merged?: boolean }

async function openModule(score: Score, threshold: number, { layer = 1, gpu = false } = {}) {
  const g = new Graph()
  const x = g.input('x', 'float32', ['B', 'N', width])
  const sizes = g.input('sizes', 'float32', ['B', 'N', 1])
  const source = g.input('source', 'int64', ['B', entered])
  const keys = g.input('keys', 'float32', ['B', 'N', heads * headWidth])
  const clsQuery = g.input('clsQuery', 'float32', ['B', 1, heads * headWidth])
  const r = g.input('r', 'int64', [1])
  const weight = g.input('weight', 'float32', [1])
  const half = g.mul(x, g.floats(0.5))
  const merged = turboMerge(
    g,
    { x: half, sizes, source },
    { update: half, keys, meaning: { queries: clsQuery } },
    r,
    weight,
    {
      places: sharedPlaces(g, x, { tokens: entered }),
      heads,
      headWidth,
      scale,
      width,
      layer,
      tokens: entered,
      score,
      threshold,
      gpu,
    },
  )
  g.output('xOut', merged.x, ['B', 'M', width])
  g.output('sizesOut', merged.sizes, ['B', 'M', 1])
  g.output('sourceOut', merged.source!, ['B', entered])
  return openSession(g.toModel(), '.', { intraOpNumThreads: 1 })
}

/** Numbers between -1 and 1 that depend on the seed alone. */
function numbers(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return (state / 2 ** 31 - 1) * 0.999
  }
}

/** `tied` makes keys unit vectors, so that similarities tie exactly; `merged` gives tokens of several patches. */
function makeInputs({ n, batch, tied, merged }: Case, seed: number) {
  const next = numbers(seed)
  const fill = (count: number, of: () => number) => Float32Array.from({ length: count }, of)
  return {
    x: fill(batch * n * width, next),
    sizes: fill(batch * n, merged ? () => 1 + Math.floor((next() + 1) * 3) : () => 1),
    source: Array.from({ length: batch * entered }, (_, i) => Math.min(i % entered, n - 1)),
    keys: tied ? unitKeys(batch * n, next) : fill(batch * n * heads * headWidth, next),
    clsQuery: fill(batch * heads * headWidth, tied ? () => 0 : () => 3 * next()),
  }
}

/** One of the axes for each token, the same in every head. */
function unitKeys(count: number, next: () => number): Float32Array {
  return Float32Array.from({ length: count }, () => Math.floor(((next() + 1) / 2) * headWidth)).reduce(
    (keys, axis, token) => {
      for (let h = 0; h < heads; h++) keys[(token * heads + h) * headWidth + axis] = 1
      return keys
    },
    new Float32Array(count * heads * headWidth),
  )
}

async function runGraph(session: ort.InferenceSession, c: Case, seed: number): Promise<ReferenceTokens[]> {
  const inputs = makeInputs(c, seed)
  const { batch, n } = c
  const out = await session.run({
    x: new ort.Tensor('float32', inputs.x, [batch, n, width]),
    sizes: new ort.Tensor('float32', inputs.sizes, [batch, n, 1]),
    source: new ort.Tensor('int64', BigInt64Array.from(inputs.source, BigInt), [batch, entered]),
    keys: new ort.Tensor('float32', inputs.keys, [batch, n, heads * headWidth]),
    clsQuery: new ort.Tensor('float32', inputs.clsQuery, [batch, 1, heads * headWidth]),
    r: new ort.Tensor('int64', BigInt64Array.of(BigInt(c.r)), [1]),
    weight: new ort.Tensor('float32', Float32Array.of(c.weight), [1]),
  })
  const m = out.sizesOut!.dims[1]!
  const rows = (tensor: ort.Tensor, b: number, count: number) =>
    Array.from((tensor.data as Float32Array).slice(b * count, (b + 1) * count), Number)
  return Array.from({ length: batch }, (_, b) => ({
    x: chunks(rows(out.xOut!, b, m * width), width),
    sizes: rows(out.sizesOut!, b, m),
    source: rows(out.sourceOut!, b, entered),
  }))
}

function runReference(c: Case, seed: number, mode: TurboMode, threshold: number, layer: number) {
  const inputs = makeInputs(c, seed)
  return Array.from({ length: c.batch }, (_, b) => {
    const part = (data: ArrayLike<number>, per: number) => Array.from(data).slice(b * per, (b + 1) * per)
    const keyRows = chunks(part(inputs.keys, c.n * heads * headWidth), heads * headWidth)
    return referenceMerge(
      {
        x: chunks(part(inputs.x, c.n * width), width),
        sizes: part(inputs.sizes, c.n),
        source: part(inputs.source, entered),
      },
      {
        keys: Array.from({ length: heads }, (_, h) =>
          keyRows.map((row) => row.slice(h * headWidth, (h + 1) * headWidth)),
        ),
        clsQuery: chunks(part(inputs.clsQuery, heads * headWidth), headWidth),
        scale,
      },
      { r: c.r, weight: c.weight, mode, threshold, layer },
    )
  })
}

const chunks = <T>(list: T[], size: number) =>
  Array.from({ length: Math.ceil(list.length / size) }, (_, i) => list.slice(i * size, (i + 1) * size))

function expectEqual(graph: ReferenceTokens[], reference: ReferenceTokens[]) {
  expect(graph.map((t) => t.sizes)).toEqual(reference.map((t) => t.sizes))
  expect(graph.map((t) => t.source)).toEqual(reference.map((t) => t.source))
  graph.forEach((tokens, b) => {
    tokens.x.forEach((row, i) => {
      row.forEach((value, c) => {
        expect(value).toBeCloseTo(reference[b]!.x[i]![c]!, 5)
      })
    })
  })
}

const cases: Case[] = [
  { n: 40, batch: 1, r: 0, weight: 3 },
  { n: 40, batch: 1, r: 1, weight: 0 },
  { n: 40, batch: 2, r: 7, weight: 3 },
  { n: 39, batch: 3, r: 7, weight: 150 },
  { n: 39, batch: 2, r: 18, weight: 3, merged: true },
  { n: 38, batch: 2, r: 19, weight: 0.5, merged: true },
  { n: 40, batch: 2, r: 19, weight: 3, merged: true },
  { n: 40, batch: 2, r: 500, weight: 3 },
  { n: 39, batch: 1, r: 500, weight: 3, merged: true },
  { n: 21, batch: 1, r: 4, weight: 1 },
  { n: 20, batch: 2, r: 4, weight: 1, merged: true },
  { n: 3, batch: 2, r: 4, weight: 1 },
  { n: 2, batch: 2, r: 4, weight: 1 },
]

describe.each([
  ['turbo', 'turbo', false],
  ['turbo', 'tome', false],
  ['attention', 'attention', false],
  ['random', 'random', false],
  ['turbo', 'turbo', true],
  ['random', 'random', true],
] as const)('turboMerge, score %s as mode %s, for a GPU: %s', (score, mode, gpu) => {
  const layer = 1
  let session: ort.InferenceSession
  beforeAll(async () => {
    session = await openModule(score, 2, { layer, gpu })
  })

  it.each(cases)('equals the reference: %o', async (c) => {
    const used = mode === 'tome' ? { ...c, weight: 0 } : c
    for (const seed of [1, 2, 3])
      expectEqual(
        await runGraph(session, used, seed),
        runReference({ ...used, weight: c.weight }, seed, mode, 2, layer),
      )
  })
})

describe('turboMerge', () => {
  it.each([false, true])(
    'takes the lower index first when similarities and scores tie, for a GPU: %s',
    async (gpu) => {
      const session = await openModule('turbo', 2, { gpu })
      for (const seed of [1, 2, 3, 4, 5]) {
        const c = { n: 24, batch: 2, r: 6, weight: 0, tied: true }
        expectEqual(await runGraph(session, c, seed), runReference(c, seed, 'turbo', 2, 1))
      }
    },
  )

  it('leaves tokens alone when fewer than the threshold enter', async () => {
    const session = await openModule('turbo', 30)
    const below = await runGraph(session, { n: 29, batch: 2, r: 5, weight: 3 }, 1)
    expect(below.map((t) => t.sizes.length)).toEqual([29, 29])
    const at = await runGraph(session, { n: 30, batch: 2, r: 5, weight: 3 }, 1)
    expect(at.map((t) => t.sizes.length)).toEqual([25, 25])
  })

  it('keeps CLS first and on its own', async () => {
    const session = await openModule('turbo', 2)
    const c = { n: 40, batch: 2, r: 19, weight: -50 }
    const [first] = await runGraph(session, c, 9)
    const input = makeInputs(c, 9)
    expect(first!.sizes[0]).toBe(1)
    expect(first!.x[0]).toEqual(Array.from(input.x.slice(0, width)))
    expect(first!.source.filter((at) => at === 0)).toHaveLength(1)
  })

  it('keeps the total size', async () => {
    const session = await openModule('turbo', 2)
    const c = { n: 37, batch: 2, r: 11, weight: 2, merged: true }
    const before = makeInputs(c, 4)
      .sizes.slice(0, 37)
      .reduce((a, b) => a + b)
    const [after] = await runGraph(session, c, 4)
    expect(after!.sizes.reduce((a, b) => a + b)).toBe(before)
  })
})
