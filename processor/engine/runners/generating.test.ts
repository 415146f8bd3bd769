import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { gunzipSync } from 'node:zlib'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decoderGraph } from '../../models/exported/decoder-graph.ts'
import { greedy } from '../../models/generation.ts'
import { openSession } from '../../onnx/session.ts'
import type { MadeIds, RunRow } from '../batch.ts'
import { cutFeatures, GeneratingRunner, stepsOf } from './generating.ts'
import { OnDemand } from './on-demand.ts'

const folder = fileURLToPath(new URL('../../../test/fixtures/models/smolvlm', import.meta.url))
const schedule = { r: [], weight: [] }

interface Reference {
  ids: { image: number; end: number[]; pad: number }
  views: Record<
    string,
    {
      pixels: string
      pixelsShape: [number, number, number, number]
      shape: { count: number; rows: number; cols: number }
    }
  >
  cases: {
    name: string
    views: string[]
    inputIds: number[]
    ids: number[]
    ended: boolean
    maxNewTokens: number
    options: object
  }[]
}

/** Stands for a vision graph: normalises, and runs the exported encoder as it is. */
async function visionOf(file: string): Promise<InferenceSession> {
  const session = await openSession(new Uint8Array(await readFile(file)), folder, { intraOpNumThreads: 1 })
  return {
    inputNames: ['pixels'],
    outputNames: ['features'],
    release: () => session.release(),
    async run({ pixels }: { pixels: Tensor }) {
      const [count, height, width] = pixels.dims as [number, number, number, number]
      const area = height * width
      const normalised = new Float32Array(count * 3 * area)
      const bytes = pixels.data as Uint8Array
      for (let at = 0; at < count * area; at++)
        for (let channel = 0; channel < 3; channel++)
          normalised[Math.floor(at / area) * 3 * area + channel * area + (at % area)] =
            bytes[3 * at + channel]! / 127.5 - 1
      const outputs = await session.run({
        pixel_values: new Tensor('float32', normalised, [1, count, 3, height, width]),
        pixel_attention_mask: new Tensor('bool', new Uint8Array(count * area).fill(1), [
          1,
          count,
          height,
          width,
        ]),
      })
      return { features: outputs.image_features! }
    },
  } as unknown as InferenceSession
}

let reference: Reference
let runner: GeneratingRunner
const pixels = new Map<string, Uint8Array<SharedArrayBuffer>>()

beforeAll(async () => {
  reference = JSON.parse(await readFile(join(folder, 'reference.json'), 'utf8'))
  const { end, pad } = reference.ids
  for (const [name, view] of Object.entries(reference.views)) {
    const bytes = gunzipSync(await readFile(join(folder, view.pixels)))
    const shared = new Uint8Array(new SharedArrayBuffer(bytes.length))
    shared.set(bytes)
    pixels.set(name, shared)
  }
  const onnx = join(folder, 'onnx')
  const { model, metadata } = decoderGraph({
    folder: onnx,
    embed: join(onnx, 'embed_tokens.onnx'),
    decoder: join(onnx, 'decoder_model_merged.onnx'),
    endIds: end,
    padId: pad,
  })
  const generate = new OnDemand(() => openSession(model, onnx, { intraOpNumThreads: 1 }))
  runner = new GeneratingRunner(
    { vision: await visionOf(join(onnx, 'vision_encoder.onnx')), generate },
    {
      kind: 'vision-language',
      lengths: 'padded',
      vision: { unit: [64, 64, 3], output: 'features' },
      generate: metadata,
    },
  )
})
afterAll(() => runner.close())

/** The row of a case of the reference. */
const rowOf = ({ views, inputIds, maxNewTokens }: Reference['cases'][number]): RunRow => ({
  pictures: views.map((name) => ({ pixels: pixels.get(name)!, shape: reference.views[name]!.shape })),
  prompt: {
    ids: inputIds,
    places: inputIds.flatMap((id, index) => (id === reference.ids.image ? [index] : [])),
  },
  settings: greedy(maxNewTokens),
})

describe('GeneratingRunner', () => {
  it('makes the ids of transformers, one by one and in batches', async () => {
    const plain = reference.cases.filter(({ options }) => Object.keys(options).length === 0)
    expect(plain.length).toBeGreaterThan(4)
    for (const each of plain) {
      const { rows } = await runner.run({ rows: [rowOf(each)], bucket: 1, schedule })
      expect(rows, each.name).toEqual([{ ids: each.ids, ended: each.ended }])
    }
    const batch = plain.slice(0, 5)
    const { rows } = await runner.run({ rows: batch.map(rowOf), bucket: 8, schedule })
    expect(rows).toEqual(batch.map(({ ids, ended }) => ({ ids, ended })))
  })

  it('knows the time of steps of a long text', async () => {
    const [long] = reference.cases.filter(
      ({ ids, options }) => ids.length > 20 && Object.keys(options).length === 0,
    )
    const { steps, stepsMs } = await runner.run({ rows: [rowOf(long!)], bucket: 1, schedule })
    expect(steps).toBeGreaterThanOrEqual(long!.ids.length - 1)
    expect(stepsMs).toBeGreaterThan(0)
  })

  it('tells ids as they are made, and lets a row leave that nobody waits for', async () => {
    const plain = reference.cases.filter(({ options }) => Object.keys(options).length === 0)
    const long = plain.filter(({ ids }) => ids.length > 12).slice(0, 2)
    const leaves = new Int32Array(new SharedArrayBuffer(4))
    const rows = [
      { ...rowOf(long[0]!), streamed: true },
      { ...rowOf(long[1]!), leaves },
    ]
    const told: MadeIds[] = []
    const onMade = (made: MadeIds) => {
      told.push(made)
      if (made.row === 1) Atomics.store(leaves, 0, 1)
    }
    const result = await runner.run({ rows, bucket: 2, schedule }, { onMade })
    const ofFirst = told.filter(({ row }) => row === 0)
    expect(ofFirst.length).toBeGreaterThan(3)
    for (const { ids } of ofFirst) expect(long[0]!.ids.slice(0, ids.length)).toEqual(ids)
    expect(ofFirst.at(-1)).toEqual({ row: 0, ids: long[0]!.ids, ended: long[0]!.ended })
    expect(result.rows[0]!.ids).toEqual(long[0]!.ids)
    expect(result.rows[1]!.ids.length).toBeLessThan(long[1]!.ids.length)
    expect(told.filter(({ row }) => row === 1).at(-1)).toMatchObject({ ended: false })
  })

  it('refuses pictures that have other places than the prompt, and goes on', async () => {
    const [row] = reference.cases.map(rowOf)
    const wrong = { ...row!, prompt: { ...row!.prompt, places: row!.prompt.places.slice(1) } }
    await expect(runner.run({ rows: [wrong], bucket: 1, schedule })).rejects.toThrow('places')
    const short = {
      ...row!,
      pictures: [{ ...row!.pictures[0]!, pixels: row!.pictures[0]!.pixels.subarray(3) }],
    }
    await expect(runner.run({ rows: [short], bucket: 1, schedule })).rejects.toThrow('bytes of pixels')
    expect((await runner.run({ rows: [row!], bucket: 1, schedule })).rows).toHaveLength(1)
  })
})

describe('cutFeatures', () => {
  const features = Float32Array.from({ length: 12 }, (_, index) => index)
  const row = (places: number, pictures = 1) =>
    ({
      pictures: new Array(pictures).fill({}),
      prompt: { ids: [], places: new Array(places).fill(0) },
    }) as never

  it('gives each row those of its places', () => {
    const cut = cutFeatures(features, [row(1), row(0, 0), row(5)], { form: 'decoder', width: 2 })
    expect(cut.map((each) => [...each])).toEqual([[0, 1], [], [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]])
  })

  it('gives each picture the same where prompts have no places', () => {
    const cut = cutFeatures(features, [row(0), row(0, 2)], { form: 'features', width: 2 })
    expect(cut.map(({ length }) => length)).toEqual([4, 8])
  })

  it.each([5, 7])('refuses %i places for 6 rows', (places) => {
    expect(() => cutFeatures(features, [row(places)], { form: 'decoder', width: 2 })).toThrow(RangeError)
  })
})

it('takes the time of steps from the calls behind the first', () => {
  expect(stepsOf([])).toEqual({})
  expect(stepsOf([{ ms: 100, ids: 16 }])).toEqual({ steps: 15 })
  expect(
    stepsOf([
      { ms: 100, ids: 16 },
      { ms: 20, ids: 10 },
    ]),
  ).toEqual({ steps: 25, stepsMs: 50 })
  // A first call cannot take less than its steps.
  expect(
    stepsOf([
      { ms: 10, ids: 16 },
      { ms: 20, ids: 10 },
    ]),
  ).toEqual({ steps: 25, stepsMs: 30 })
})
