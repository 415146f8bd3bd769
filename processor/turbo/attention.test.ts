import * as ort from 'onnxruntime-node'
import { beforeAll, describe, expect, it } from 'vitest'
import { Graph } from '../onnx/graph.ts'
import { openSession } from '../onnx/session.ts'
import { proportionalAttention } from './attention.ts'

const heads = 2
const headWidth = 4
const width = heads * headWidth
const scale = headWidth ** -0.5
const entered = 9

/** Queries, keys and values of a few tokens, a row for each. */
interface Rows {
  q: number[][]
  k: number[][]
  v: number[][]
}

async function openAttention(kind: 'proportional' | 'plain') {
  const g = new Graph()
  const input = (name: string) => g.input(name, 'float32', ['B', 'N', width])
  const [q, k, v] = [input('q'), input('k'), input('v')]
  const sizes = g.input('sizes', 'float32', ['B', 'N', 1])
  const settings = { heads, headWidth, scale, width }
  const result =
    kind === 'plain'
      ? g.attention(q, k, v, heads, scale)
      : proportionalAttention(g, { q, k, v }, sizes, entered, settings)
  g.output('attended', result, ['B', 'N', width])
  return openSession(g.toModel(), '.', { intraOpNumThreads: 1 })
}

async function attend(
  session: ort.InferenceSession,
  { q, k, v }: Rows,
  sizes: number[],
): Promise<number[][]> {
  const tensor = (rows: number[][]) =>
    new ort.Tensor('float32', Float32Array.from(rows.flat()), [1, rows.length, rows[0]!.length])
  const out = await session.run({
    q: tensor(q),
    k: tensor(k),
    v: tensor(v),
    sizes: tensor(sizes.map((size) => [size])),
  })
  const values = Array.from(out.attended!.data as Float32Array)
  return q.map((_, row) => values.slice(row * width, (row + 1) * width))
}

/** Uneven numbers between -2 and 2. */
function rows(count: number, phase: number): number[][] {
  return Array.from({ length: count }, (_, row) =>
    Array.from({ length: width }, (_, column) => 2 * Math.sin(phase + 1.7 * row + 2.3 * column * (row + 1))),
  )
}

const someTokens = (count: number): Rows => ({ q: rows(count, 0), k: rows(count, 1), v: rows(count, 2) })

/** Each token as often as its size says. */
const unfold = ({ q, k, v }: Rows, sizes: number[]): Rows => {
  const repeat = (list: number[][]) => list.flatMap((row, i) => Array.from({ length: sizes[i]! }, () => row))
  return { q: repeat(q), k: repeat(k), v: repeat(v) }
}

function expectClose(actual: number[][], expected: number[][]) {
  actual.forEach((row, i) => {
    row.forEach((value, column) => {
      expect(value).toBeCloseTo(expected[i]![column]!, 5)
    })
  })
}

describe('proportionalAttention', () => {
  let proportional: ort.InferenceSession
  let plain: ort.InferenceSession
  beforeAll(async () => {
    proportional = await openAttention('proportional')
    plain = await openAttention('plain')
  })

  it('counts a token of size 3 as three copies of it', async () => {
    const sizes = [1, 3, 1, 2]
    const tokens = someTokens(4)
    const copies = await attend(plain, unfold(tokens, sizes), new Array(7).fill(1))
    const firstCopies = [0, 1, 4, 5].map((row) => copies[row]!)
    expectClose(await attend(proportional, tokens, sizes), firstCopies)
  })

  it('is plain attention when all sizes are one', async () => {
    const tokens = someTokens(5)
    const ones = new Array(5).fill(1)
    expectClose(await attend(proportional, tokens, ones), await attend(plain, tokens, ones))
  })

  it('is plain attention bit for bit while no token has merged', async () => {
    const tokens = someTokens(entered)
    const ones = new Array(entered).fill(1)
    expect(await attend(proportional, tokens, ones)).toEqual(await attend(plain, tokens, ones))
  })
})
