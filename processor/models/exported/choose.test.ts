import fc from 'fast-check'
import type { Tensor } from 'onnxruntime-node'
import { beforeAll, describe, expect, it } from 'vitest'
import { Graph } from '../../onnx/graph.ts'
import { openSession } from '../../onnx/session.ts'
import { drawn, guarded, isPlain } from './choose.ts'
import { rowInputs } from './graph.ts'
import { float32, type RunningRow, rowFeeds } from './rows.ts'

const size = 7
const endIds = [2, 5]

interface Row {
  logits: number[]
  prompt: number[]
  made: number[]
  settings: RunningRow['row']['settings']
}

let guardedLogits: (rows: Row[]) => Promise<number[][]>
let drawnIds: (rows: Row[], uniform: number[]) => Promise<number[]>
let allPlain: (rows: Row[]) => Promise<boolean>

beforeAll(async () => {
  const g = new Graph()
  const logits = g.input('logits', 'float32', ['B', size])
  const { history, settings, uniform } = rowInputs(g)
  const allowed = guarded(g, logits, history, settings, { endIds })
  g.output('guarded', allowed, ['B', size])
  g.output('drawn', drawn(g, allowed, uniform, settings), ['B', 1])
  g.output('plain', isPlain(g, history, settings), [])
  const session = await openSession(g.toModel(), '.', { intraOpNumThreads: 1, logSeverityLevel: 4 })
  const run = async (rows: Row[], uniforms: number[]) => {
    const running = rows.map(({ prompt, made, settings }, i) => ({
      row: { ids: prompt, places: [], features: new Float32Array(0), settings },
      made,
      counts: new Map([...Map.groupBy(made, (id) => id)].map(([id, { length }]) => [id, length])),
      position: 0,
      uniform: () => uniforms[i]!,
    }))
    const feeds = rowFeeds(running, ({ row }) => row.ids, 1)
    const inputs: Record<string, Tensor> = {
      ...feeds,
      logits: float32(
        rows.flatMap((row) => row.logits),
        [rows.length, size],
      ),
    }
    return session.run(Object.fromEntries(session.inputNames.map((name) => [name, inputs[name]!])))
  }
  guardedLogits = async (rows) => {
    const data = Array.from(
      (
        await run(
          rows,
          rows.map(() => 0),
        )
      ).guarded!.data as Float32Array,
    )
    return rows.map((_, row) => data.slice(row * size, (row + 1) * size))
  }
  allPlain = async (rows) => {
    const { plain: answer } = await run(
      rows,
      rows.map(() => 0),
    )
    return answer!.data[0] === 1
  }
  drawnIds = async (rows, uniforms) =>
    Array.from((await run(rows, uniforms)).drawn!.data as BigInt64Array, Number)
})

const plain: Row['settings'] = {
  maxTokens: 9,
  temperature: 0,
  topP: 1,
  repetitionPenalty: 1,
  noRepeatNgram: 0,
}

/** The same by the definitions: transformers' repetition_penalty and no_repeat_ngram_size, OpenAI's penalties. */
function expected({ logits, prompt, made, settings }: Row): number[] {
  const history = [...prompt, ...made]
  const {
    repetitionPenalty,
    noRepeatNgram: n,
    frequencyPenalty = 0,
    presencePenalty = 0,
    minTokens = 0,
  } = settings
  return logits.map((logit, id) => {
    const tooSoon = endIds.includes(id) && made.length < minTokens
    const beginning = history.slice(history.length - n + 1)
    const repeats = history.some(
      (other, at) =>
        n > 0 &&
        other === id &&
        at >= n - 1 &&
        beginning.every((before, i) => history[at - n + 1 + i] === before),
    )
    if (tooSoon || (repeats && history.length >= n - 1)) return Number.NEGATIVE_INFINITY
    const factor = history.includes(id) ? (logit < 0 ? repetitionPenalty : 1 / repetitionPenalty) : 1
    const count = made.filter((other) => other === id).length
    return logit * factor - frequencyPenalty * count - (count > 0 ? presencePenalty : 0)
  })
}

const ids = (minLength: number) => fc.array(fc.nat(size - 1), { minLength, maxLength: 12 })
const anyRow: fc.Arbitrary<Row> = fc.record({
  logits: fc.array(
    fc.integer({ min: -40, max: 40 }).map((value) => value / 8),
    { minLength: size, maxLength: size },
  ),
  prompt: ids(1),
  made: ids(0),
  settings: fc.record({
    maxTokens: fc.constant(9),
    temperature: fc.constant(0),
    topP: fc.constant(1),
    repetitionPenalty: fc.constantFrom(1, 1.5, 0.5),
    noRepeatNgram: fc.nat(5),
    frequencyPenalty: fc.constantFrom(0, 0.25, -1),
    presencePenalty: fc.constantFrom(0, 0.5, -1),
    minTokens: fc.nat(14),
  }),
})

describe('guarded', () => {
  it('is what the definitions say, for rows of different histories in one batch', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(anyRow, { minLength: 1, maxLength: 4 }), async (rows) => {
        const actual = await guardedLogits(rows)
        for (const [at, row] of rows.entries())
          for (const [id, logit] of expected(row).entries()) {
            if (Number.isFinite(logit)) expect(actual[at]![id]).toBeCloseTo(logit, 4)
            else expect(actual[at]![id]).toBe(logit)
          }
      }),
      { numRuns: 150 },
    )
  })

  it('leaves logits alone bit by bit when all is off', async () => {
    const logits = [0.1, -0.2, 3e-8, -5, 1e9, 0, 7]
    expect(await guardedLogits([{ logits, prompt: [1, 1, 4], made: [1, 1], settings: plain }])).toEqual([
      Array.from(Float32Array.from(logits)),
    ])
  })
})

describe('isPlain', () => {
  const row = (settings: Partial<Row['settings']>, made: number[] = []): Row => ({
    logits: new Array<number>(size).fill(0),
    prompt: [1],
    made,
    settings: { ...plain, ...settings },
  })

  it.each<[string, Row]>([
    ['repetition', row({ repetitionPenalty: 1.1 })],
    ['a weaker repetition', row({ repetitionPenalty: 0.9 })],
    ['frequency', row({ frequencyPenalty: -0.1 })],
    ['presence', row({ presencePenalty: 0.1 })],
    ['runs of ids', row({ noRepeatNgram: 1 })],
    ['ids that are still to come', row({ minTokens: 3 }, [4, 4])],
    ['a draw', row({ temperature: 0.5 })],
  ])('is false where one row has %s', async (_, other) => {
    expect(await allPlain([other])).toBe(false)
    expect(await allPlain([row({}), other])).toBe(false)
  })

  it('is true of rows that take their likeliest id', async () => {
    expect(await allPlain([row({}), row({ minTokens: 2 }, [4, 4]), row({ temperature: 1, topK: 1 })])).toBe(
      true,
    )
  })
})

describe('drawn', () => {
  const row = (settings: Partial<Row['settings']>): Row => ({
    logits: [1, 3, 2, 0, -1, -2, -3].map((x) => x * Math.LN2),
    prompt: [0],
    made: [],
    settings: { ...plain, temperature: 1, ...settings },
  })
  /** Shares of ids 1, 2, 0, 3, ...: 8, 4, 2, 1, 1/2, 1/4, 1/8. */
  const total = 15.875
  it.each<[string, Partial<Row['settings']>, [number, number][]]>([
    [
      'all ids',
      {},
      [
        [0, 1],
        [7.99, 1],
        [8.01, 2],
        [11.99, 2],
        [12.01, 0],
        [14.1, 3],
        [15.874, 6],
      ],
    ],
    [
      'a nucleus',
      { topP: 0.6 },
      [
        [0.66 * total, 1],
        [0.67 * total, 2],
        [0.9999 * total, 2],
      ],
    ],
    ['the nucleus of one', { topP: 1e-9 }, [[0.9999 * total, 1]]],
    ['an empty nucleus', { topP: 0 }, [[0.9999 * total, 1]]],
    ['a nucleus below the least number of float32', { topP: 1e-50 }, [[0.9999 * total, 1]]],
    [
      'two candidates',
      { topK: 2 },
      [
        [0.66 * total, 1],
        [0.67 * total, 2],
      ],
    ],
    ['every candidate', { topK: 0 }, [[15.874, 6]]],
    ['more candidates than there are', { topK: 1000 }, [[15.874, 6]]],
    ['a nucleus of candidates', { topK: 2, topP: 0.6 }, [[0.9999 * total, 1]]],
    [
      'a colder distribution',
      { temperature: 0.5 },
      [
        [0.74 * total, 1],
        [0.76 * total, 2],
      ],
    ],
    ['the most probable', { temperature: 0 }, [[0.9999 * total, 1]]],
    ['the most probable of a distribution that is too cold', { temperature: 1e-40 }, [[0.9999 * total, 1]]],
  ])('takes %s by the inverse of the distribution', async (_, settings, draws) => {
    for (const [at, id] of draws) expect(await drawnIds([row(settings)], [at / total])).toEqual([id])
    const together = draws.map(() => row(settings))
    const mixed = [...together, row({ temperature: 0 }), row({ topK: 5 })]
    const answers = await drawnIds(mixed, [...draws.map(([at]) => at / total), 0.99, 0])
    expect(answers).toEqual([...draws.map(([, id]) => id), 1, 1])
  })
})
