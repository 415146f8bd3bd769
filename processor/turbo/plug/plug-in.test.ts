import { readFileSync } from 'node:fs'
import { gunzipSync } from 'node:zlib'
import { type InferenceSession, Tensor } from 'onnxruntime-node'
import { describe, expect, it } from 'vitest'
import type { Feeds } from '../../onnx/probe.ts'
import { decodeModel, encodeModel, type ModelProto } from '../../onnx/proto.ts'
import { openSession } from '../../onnx/session.ts'
import { type Plugged, type PlugOptions, plugTurbo } from './plug-in.ts'
import { selfTest } from './self-test.ts'

const folder = new URL('../../../test/fixtures/models/encoders/', import.meta.url).pathname
const unpacked = (name: string) => gunzipSync(readFileSync(`${folder}${name}.gz`))
const read = (name: string) => decodeModel(unpacked(`${name}.onnx`))

type Expected = Record<string, number[][]>
interface Expectations extends Record<string, Expected | number[]> {
  r: number[]
  weight: number[]
}
const expectations = JSON.parse(unpacked('expected.json').toString()) as Expectations

/** The numbers of the script that made the fixtures. */
function image(...dims: number[]): Tensor {
  let state = 7
  const values = Float32Array.from({ length: dims.reduce((a, b) => a * b, 1) }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 31 - 1
  })
  return new Tensor('float32', values, dims)
}

function feedsOf(name: string, images = 2): Feeds {
  if (name.startsWith('qwen2-vl')) return { pixel_values: image(64, 96) }
  if (!name.startsWith('idefics3')) return { pixel_values: image(images, 3, 64, 64) }
  return {
    pixel_values: image(1, images, 3, 64, 64),
    pixel_attention_mask: new Tensor('bool', new Uint8Array(images * 64 * 64).fill(1), [1, images, 64, 64]),
  }
}

const schedule = (r: number[], weight: number[]): Feeds => ({
  r: new Tensor('int64', BigInt64Array.from(r, BigInt), [r.length]),
  weight: new Tensor('float32', Float32Array.from(weight), [weight.length]),
})
const nothing = (layers: number) => schedule(new Array(layers).fill(0), new Array(layers).fill(150))

async function run(model: ModelProto, feeds: Feeds): Promise<Feeds> {
  const session: InferenceSession = await openSession(encodeModel(model), folder, { intraOpNumThreads: 1 })
  const own = Object.entries(feeds).filter(([name]) => session.inputNames.includes(name))
  const outputs = (await session.run(Object.fromEntries(own))) as Feeds
  await session.release()
  return outputs
}

const plug = (name: string, options: Partial<PlugOptions> = {}): Promise<Plugged> =>
  plugTurbo(read(name), { feeds: feedsOf(name), folder, ...options })

/** Largest difference relative to the largest magnitude. */
function distance(a: ArrayLike<number | bigint>, b: ArrayLike<number | bigint>): number {
  expect(a.length).toBe(b.length)
  const [x, y] = [Array.from(a, Number), Array.from(b, Number)]
  return Math.max(...x.map((value, i) => Math.abs(value - y[i]!))) / Math.max(1, ...x.map(Math.abs))
}

function furthest(a: Feeds, b: Feeds): number {
  expect(Object.keys(b)).toEqual(expect.arrayContaining(Object.keys(a)))
  return Math.max(
    ...Object.entries(a).map(([name, { data, dims }]) => {
      expect(b[name]!.dims).toEqual(dims)
      return distance(data as Float32Array, b[name]!.data as Float32Array)
    }),
  )
}

/** Every kind that can be plugged: its tokens at the front, the tokens that enter, and how exact it is. */
const encoders = [
  { name: 'vit-ts11', prefix: 1, tokensIn: 65 },
  { name: 'vit-fused', prefix: 1, tokensIn: 65 },
  { name: 'vit-int8', prefix: 1, tokensIn: 65 },
  { name: 'deit-dynamo18', prefix: 2, tokensIn: 66 },
  { name: 'dinov2-ts17', prefix: 1, tokensIn: 65 },
  { name: 'siglip-ts14', prefix: 0, tokensIn: 64 },
  { name: 'siglip-dynamo23', prefix: 0, tokensIn: 64 },
  { name: 'siglip-half', prefix: 0, tokensIn: 64, exactly: 5e-3 },
  { name: 'idefics3-ts17', prefix: 0, tokensIn: 64 },
]

describe('plugTurbo', () => {
  for (const { name, prefix, tokensIn, exactly = 1e-5 } of encoders) {
    const expected = expectations[name === 'vit-fused' ? 'vit-ts11' : name] as Expected | undefined

    it(`equals the file while nothing merges, also for other numbers of images: ${name}`, async () => {
      const plugged = await plug(name)
      expect(plugged).toMatchObject({ layers: 3, width: 16, heads: 2, tokensIn, prefix, cls: prefix > 0 })
      expect(plugged.blocks).toHaveLength(3)
      for (const images of [1, 2, 5]) {
        const feeds = feedsOf(name, images)
        const [before, after] = [
          await run(read(name), feeds),
          await run(plugged.model, { ...feeds, ...nothing(3) }),
        ]
        expect(furthest(before, after)).toBeLessThanOrEqual(exactly)
      }
    })

    if (!expected) continue
    it(`merges as the plain reference does: ${name}`, async () => {
      const { model } = await plug(name, { trace: true })
      const feeds = { ...feedsOf(name), ...schedule(expectations.r, expectations.weight) }
      const outputs = await run(model, feeds)
      for (const [output, images] of Object.entries(expected)) {
        const count = images[0]!.length
        expect(distance(images.flat(), outputs[output]!.data as Float32Array)).toBeLessThanOrEqual(
          output === 'source' ? 0 : exactly,
        )
        expect(outputs[output]!.data).toHaveLength(2 * count)
      }
    })
  }

  it('gives back a row for each token at the outputs where that is wanted', async () => {
    const { model, unmerged } = await plug('siglip-ts14', { unmergeAtOutput: true, trace: true })
    const merging = await plug('siglip-ts14', { trace: true })
    expect([unmerged, merging.unmerged]).toEqual([true, false])
    const feeds = { ...feedsOf('siglip-ts14'), ...schedule(expectations.r, expectations.weight) }
    const [every, few] = [await run(model, feeds), await run(merging.model, feeds)]
    const rows = { every: every.last_hidden_state!, few: few.last_hidden_state! }
    expect([rows.every.dims, rows.few.dims]).toEqual([
      [2, 64, 16],
      [2, 44, 16],
    ])
    const source = Array.from(every.source!.data as BigInt64Array, Number)
    const wanted = source.flatMap((row, i) => {
      const at = (Math.floor(i / 64) * 44 + row) * 16
      return Array.from((rows.few.data as Float32Array).slice(at, at + 16))
    })
    expect(distance(wanted, rows.every.data as Float32Array)).toBeLessThan(1e-6)
    expect(distance(few.pooler_output!.data as Float32Array, every.pooler_output!.data as Float32Array)).toBe(
      0,
    )
  })

  it('does not merge below the threshold', async () => {
    const { model } = await plug('vit-ts11', { threshold: 60 })
    const outputs = await run(model, { ...feedsOf('vit-ts11'), ...schedule([9, 9, 9], [0, 0, 0]) })
    expect(outputs.last_hidden_state!.dims).toEqual([2, 56, 16])
  })

  it('caps r, and leaves the tokens at the front alone', async () => {
    const { model } = await plug('deit-dynamo18')
    const outputs = await run(model, { ...feedsOf('deit-dynamo18'), ...schedule([500, 0, 0], [0, 0, 0]) })
    expect(outputs.last_hidden_state!.dims).toEqual([2, 66 - 32, 16])
  })

  it.each([
    ['beit', /relative positions/],
    ['swin', /16 of 64 tokens at a time, as windows do/],
    ['dinov3', /read tokens by their places: an operand for each token/],
    ['hidden-states', /output hidden_states\.\d is a hidden state between blocks/],
    ['qwen2-vl', /packs the patches of all images|relative positions or a mask/],
  ])('refuses what cannot be exact, in one line: %s', async (name, reason) => {
    const refusal = await plug(name).catch((error: Error) => error)
    expect(refusal).toMatchObject({ name: 'PlugRefusal', message: expect.stringMatching(reason) })
    expect((refusal as Error).message).not.toContain('\n')
  })
})

describe('selfTest', () => {
  it('passes what equals the file, and fails what does not', async () => {
    const original = read('siglip-ts14')
    const feeds = feedsOf('siglip-ts14')
    const plugged = await plug('siglip-ts14')
    expect(await selfTest(original, plugged, feeds, folder)).toMatchObject({ passes: true })
    const { initializer } = plugged.model.graph
    const changed = initializer!.find(({ dims, dataLocation }) => dims.length === 2 && !dataLocation)!
    const wrong = {
      ...plugged.model,
      graph: {
        ...plugged.model.graph,
        initializer: initializer!.map((each) =>
          each === changed ? { ...each, rawData: new Uint8Array(each.rawData!.length) } : each,
        ),
      },
    }
    expect(await selfTest(original, { ...plugged, model: wrong }, feeds, folder)).toMatchObject({
      passes: false,
    })
  })
})
