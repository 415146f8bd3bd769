import { mkdtemp, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { afterAll, describe, expect, it } from 'vitest'
import { Graph } from '../graph.ts'
import type { Value } from '../operators.ts'
import { decodeModel } from '../proto.ts'
import { writeSafetensors } from '../safetensors.ts'
import { openSession } from '../session.ts'
import { allGraphs } from '../visit.ts'
import { ModelFolderError, Weights } from '../weights.ts'
import { int8Graphs } from './int8-graphs.ts'
import { addsExactly, mostOnThisCpu } from './largest-whole.ts'
import { largestWhole } from './round.ts'

const root = await mkdtemp(join(tmpdir(), 'turbine-int8-'))
afterAll(() => rm(root, { recursive: true, force: true }))

const from = 32
const to = 48
const some = (length: number, seed: number) =>
  Float32Array.from({ length }, (_, i) => Math.sin(seed + i * 1.7) * (1 + (i % 3)))

const folder = await mkdtemp(join(root, 'model-'))
const file = join(folder, 'model.safetensors')
await writeSafetensors(file, {
  outputsFirst: { type: 'F32', shape: [to, from], data: some(to * from, 1) },
  inputsFirst: { type: 'F32', shape: [from, to], data: some(to * from, 2) },
  bias: { type: 'F32', shape: [to], data: some(to, 3) },
  half: {
    type: 'BF16',
    shape: [to, from],
    data: Uint16Array.from(some(to * from, 4), (x) => new Uint32Array(Float32Array.of(x).buffer)[0]! >>> 16),
  },
})
const weights = await Weights.open(file)

type Build = (g: Graph, x: Value<'float32'>) => Value<'float32'>
const load = (g: Graph, name: string, shape: number[]) => weights.load(g, name, shape, 'float32')

const products: Record<string, Build> = {
  Gemm: (g, x) => g.gemm(x, load(g, 'outputsFirst', [to, from])),
  'Gemm with a bias': (g, x) => g.gemm(x, load(g, 'outputsFirst', [to, from]), load(g, 'bias', [to])),
  MatMul: (g, x) => g.matmul(x, load(g, 'inputsFirst', [from, to])),
  'of three axes': (g, x) =>
    g.reshape(g.matmul(g.unsqueeze(x, 0), load(g, 'inputsFirst', [from, to])), [-1, to]),
  'a transposed weight': (g, x) => g.matmul(x, g.transpose(load(g, 'outputsFirst', [to, from]), [1, 0])),
  'weights in one': (g, x) =>
    g.gemm(x, g.concat([load(g, 'outputsFirst', [to, from]), load(g, 'half', [to, from])], 0)),
  'a weight of 16 bits': (g, x) => g.gemm(x, load(g, 'half', [to, from])),
  'in a branch': (g, x) => {
    const weight = load(g, 'outputsFirst', [to, from])
    const write = (body: Graph, y: Value) => body.output(body.uniqueName('y'), y, ['M', to])
    const isEmpty = g.equal(g.shape(x, 0, 1), g.ints([0]))
    const both = (body: Graph) => write(body, body.gemm(x, weight))
    return g.branch(isEmpty, ['float32'], both, both)[0]
  },
}

function graphOf(build: Build): Uint8Array {
  const g = new Graph()
  g.output('y', build(g, g.input('x', 'float32', ['M', from])), ['M', 'N'])
  return g.toModel()
}

const operators = (graph: Uint8Array) =>
  [...allGraphs(decodeModel(graph).graph)].flatMap(({ node }) => node.map(({ opType }) => opType))

async function run({ graph, folder }: { graph: Uint8Array; folder: string }, x: Float32Array) {
  const session = await openSession(graph, folder)
  const { y } = await session.run({ x: new ort.Tensor('float32', x, [x.length / from, from]) })
  await session.release()
  return y!.data as Float32Array
}

const cache = join(root, 'cache')
const inInt8 = async (build: Build, options = { cache, most: 127 }) =>
  (await int8Graphs({ it: { graph: graphOf(build), folder } }, options)).it!

const length = (x: Float32Array) => Math.hypot(...x)
const x = some(3 * from, 9)

describe.each(Object.entries(products))('a product: %s', (_, build) => {
  it.each(Object.values(largestWhole))('is near that of float32, of weights up to %d', async (most) => {
    const rounded = await inInt8(build, { cache, most })
    expect(operators(rounded.graph)).toContain('MatMulIntegerToFloat')
    expect(operators(rounded.graph)).not.toContain('Gemm')
    const [exact, near] = [await run({ graph: graphOf(build), folder }, x), await run(rounded, x)]
    expect(near.length).toBe(exact.length)
    expect(length(near.map((value, i) => value - exact[i]!)) / length(exact)).toBeLessThan(
      most === 127 ? 0.02 : 0.03,
    )
  })
})

describe('a row', () => {
  it('has the same result beside rows of a hundred times its size, and beside zeros', async () => {
    const rounded = await inInt8(products['Gemm with a bias']!)
    const alone = await run(rounded, x.slice(0, from))
    for (const other of [some(from, 77).map((value) => 100 * value), new Float32Array(from)])
      expect((await run(rounded, Float32Array.of(...x.slice(0, from), ...other))).slice(0, to)).toEqual(alone)
  })

  it('of zeros has the bias as its result', async () => {
    const rounded = await inInt8(products['Gemm with a bias']!)
    expect(await run(rounded, new Float32Array(from))).toEqual(some(to, 3))
  })
})

describe('what is no linear layer stays', () => {
  it.each<[string, Build]>([
    ['a product of activations', (g, x) => g.matmul(x, g.transpose(x, [1, 0]))],
    [
      'a product with a computed weight',
      (g, x) => g.gemm(x, g.mul(load(g, 'outputsFirst', [to, from]), g.floats(2))),
    ],
    ['rows of a table', (g, x) => g.add(g.gather(load(g, 'outputsFirst', [to, from]), g.ints([3])), x)],
  ])('%s', async (_, build) => {
    const rounded = await inInt8(build)
    expect(operators(rounded.graph)).toEqual(operators(graphOf(build)))
    expect(await run(rounded, x)).toEqual(await run({ graph: graphOf(build), folder }, x))
  })
})

describe('the file of weights', () => {
  it('is written once, for its owner only, and never into the model folder', async () => {
    const own = join(root, 'own')
    const before = await readdir(folder)
    const graphs = {
      a: { graph: graphOf(products.Gemm!), folder },
      b: { graph: graphOf(products['in a branch']!), folder },
    }
    const { a, b } = await int8Graphs(graphs, { cache: own, most: 127 })
    expect(a!.folder).toBe(b!.folder)
    const written = await stat(join(a!.folder, 'weights.bin'))
    // One weight for both.
    expect(written.size).toBeLessThan(to * from + 4 * to + 256)
    expect(written.mode & 0o777).toBe(0o600)
    expect((await stat(a!.folder)).mode & 0o777).toBe(0o700)
    const again = await int8Graphs(graphs, { cache: own, most: 127 })
    expect((await stat(join(again.a!.folder, 'weights.bin'))).mtimeMs).toBe(written.mtimeMs)
    expect(await readdir(own)).toHaveLength(1)
    expect(await readdir(a!.folder)).toEqual(['weights.bin'])
    expect(await readdir(folder)).toEqual(before)
  })

  it('is another one for other weights, and for another range', async () => {
    const { folder: first } = await inInt8(products.Gemm!)
    expect((await inInt8(products.Gemm!, { cache, most: 63 })).folder).not.toBe(first)
    const { atime, mtime } = await stat(file)
    await utimes(file, atime, new Date(mtime.getTime() + 5000))
    expect((await inInt8(products.Gemm!)).folder).not.toBe(first)
    await utimes(file, atime, mtime)
  })

  it('is written again where it was cut short', async () => {
    const { folder: at } = await inInt8(products.Gemm!)
    await writeFile(join(at, 'weights.bin'), 'cut short')
    const rounded = await inInt8(products.Gemm!)
    expect((await run(rounded, x)).length).toBe(3 * to)
  })

  it('says in one line where it cannot be written', async () => {
    const taken = join(root, 'a-file')
    await writeFile(taken, '')
    const error = await inInt8(products.Gemm!, { cache: taken, most: 127 }).catch((error: Error) => error)
    expect(error).toBeInstanceOf(ModelFolderError)
    expect((error as Error).message).toMatch(
      /^The weights in int8 cannot be written to .*Set XDG_CACHE_HOME to a folder with 1 MiB\.$/,
    )
  })
})

describe('sums of the largest products', () => {
  it('are exact on any machine within half of the range', async () => {
    expect(await addsExactly(largestWhole.saturating)).toBe(true)
  })

  it('decide the range', async () => {
    expect(await mostOnThisCpu()).toBe(
      (await addsExactly(largestWhole.exact)) ? largestWhole.exact : largestWhole.saturating,
    )
  })
})
