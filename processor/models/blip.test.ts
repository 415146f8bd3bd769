import { rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import * as ort from 'onnxruntime-node'
import { beforeAll, describe, expect, it } from 'vitest'
import { decodeModel } from '../onnx/proto.ts'
import { type SafetensorsType, writeSafetensors } from '../onnx/safetensors.ts'
import { openSession } from '../onnx/session.ts'
import { allNodes } from '../onnx/visit.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { perLayer } from '../turbo/schedule.ts'
import { type BlipModel, openBlip } from './blip.ts'
import type { GraphOptions } from './model.ts'
import {
  type Expected,
  editJson,
  openTraced,
  readExpected,
  readTensors,
  relativeError,
  type TensorContent,
  tinyBlip,
  withCopy,
} from './tiny-blip.fixture.ts'

const weightsFile = 'model.safetensors'
const images = 3
const tokensIn = 65
const total = (sizes: number[]) => sizes.reduce((sum, size) => sum + size, 0)

let model: BlipModel
let expected: Expected
beforeAll(async () => {
  model = await openBlip(tinyBlip)
  expected = await readExpected()
})

/** Ids up to the end of a row. */
const lengthOf = (row: number[]) => {
  const end = row.indexOf(model.endId)
  return end < 0 ? row.length : end + 1
}

/** Pixels of one image of the fixture. */
function picture(image: number): Uint8Array {
  const size = expected.pixels.length / images
  return expected.pixels.slice(image * size, (image + 1) * size)
}

it('says what it is', () => {
  expect(model).toMatchObject({
    id: 'tiny-blip',
    folder: tinyBlip,
    picture: { kind: 'squash', height: 64, width: 64, resample: 'bicubic' },
    patch: 8,
    encoder: { tokens: tokensIn, layers: 3, width: 32, mlpWidth: 48, heads: 4 },
    maxLength: 20,
    maxPromptLength: 18,
    startId: 59,
    endId: 4,
    padId: 0,
  })
  expect(model.levels[0]).toMatchObject({ r: [0, 0, 0], pruneRatio: 0, tokensOut: tokensIn })
})

it('counts new tokens behind the prompt where the folder says so', () =>
  withCopy(
    (folder) => writeFile(join(folder, 'generation_config.json'), '{"max_new_tokens": 3}'),
    async (folder) => {
      const short = await openBlip(folder)
      expect(short).toMatchObject({ maxLength: 4, maxPromptLength: 28 })
      const run = await openTraced(short)
      const prompt = [short.startId, 10, 11]
      expect((await run({ pixels: picture(0), prompt })).ids[0]).toHaveLength(prompt.length + 3)
    },
  ))

describe('a graph that merges nothing', () => {
  let run: Awaited<ReturnType<typeof openTraced>>
  beforeAll(async () => {
    run = await openTraced(model)
  })

  it('has the last hidden state of Hugging Face', async () => {
    const { tokens, sizes, source } = await run({ pixels: expected.pixels })
    expect(relativeError(tokens, expected.hidden)).toBeLessThan(1e-5)
    expect(Math.max(...tokens.map((value, i) => Math.abs(value - expected.hidden[i]!)))).toBeLessThan(1e-4)
    expect(sizes.flat().every((size) => size === 1)).toBe(true)
    expect(source).toEqual(
      Array.from({ length: images }, () => Array.from({ length: tokensIn }, (_, i) => i)),
    )
  })

  it('captions as generate does, rows that end early padded', async () => {
    const { ids } = await run({ pixels: expected.pixels })
    expect(ids).toEqual(expected.ids)
  })

  it('does not end at the eos id of the configuration, which is an ordinary word', () => {
    const inside = expected.ids.flatMap((row) => row.slice(0, -1))
    expect(inside).toContain(2)
  })

  it('stops when the only row has ended, and says the same alone as in a batch', async () => {
    for (let image = 0; image < images; image++) {
      const inBatch = expected.ids[image]!
      const end = inBatch.indexOf(model.endId)
      const { ids } = await run({ pixels: picture(image) })
      expect(ids).toEqual([end < 0 ? inBatch : inBatch.slice(0, end + 1)])
    }
  })

  it('continues a prompt as generate does', async () => {
    const [prompt] = expected.prompt
    const { ids } = await run({
      pixels: expected.pixels,
      prompt: [model.startId, ...prompt!.slice(1, -1)],
    })
    expect(ids).toEqual(expected.promptedIds)
  })

  it.each([[[1, 3, 5]], [[2, 2, 2]], [[19, 1, 19]], [[4, 100, 1]]])(
    'ends each row of a batch at its own limit, and says until then what it says without: %j',
    async (limits) => {
      const { ids } = await run({ pixels: expected.pixels, limits })
      const length = Math.max(...ids.map((row) => row.length))
      limits.forEach((limit, row) => {
        const whole = expected.ids[row]!
        const cut = [...whole.slice(0, 1 + limit), ...Array.from({ length }, () => model.padId)]
        expect(ids[row]).toEqual(cut.slice(0, length))
      })
      // No row goes on for one that has ended.
      const needed = limits.map((limit, row) => Math.min(1 + limit, lengthOf(expected.ids[row]!)))
      expect(length).toBe(Math.max(...needed))
    },
  )

  it('adds one id to the longest prompt', async () => {
    const prompt = [model.startId, ...Array.from({ length: model.maxPromptLength }, () => 8)]
    const { ids } = await run({ pixels: picture(0), prompt })
    expect(ids[0]).toHaveLength(model.maxLength)
    expect(ids[0]!.slice(0, -1)).toEqual(prompt)
  })

  it('equals a graph without Turbo bit for bit', async () => {
    const plain = await openTraced(model, { mode: 'none' })
    expect(await run({ pixels: expected.pixels })).toEqual(await plain({ pixels: expected.pixels }))
  })
})

it('leaves the decoder out on request', async () => {
  const session = await openSession(model.buildGraph({ decoder: false }), model.folder)
  expect(session.outputNames).toEqual(['tokens'])
})

describe('a graph with Turbo', () => {
  it('answers as the official code, setting by setting', async () => {
    const byOptions = Map.groupBy(expected.settings, ({ threshold, mode }) => `${threshold} ${mode}`)
    expect([...byOptions.values()].map((settings) => settings.length)).toEqual([5, 1, 1])
    for (const settings of byOptions.values()) {
      const { threshold, mode } = settings[0]!
      await expectAnswers(await openTraced(model, { threshold, mode }), settings)
    }
  })

  it('answers the same built for a GPU, and built for one schedule', async () => {
    for (const settings of expected.settings) {
      const { r, threshold, mode } = settings
      await expectAnswers(await openTraced(model, { threshold, mode, gpu: true }), [settings])
      const fixed = perLayer(r, model.encoder.layers)
      await expectAnswers(await openTraced(model, { threshold, mode, gpu: true, r: fixed }), [settings])
      await expectAnswers(await openTraced(model, { threshold, mode, r: fixed }), [settings])
      const whole = { threshold, mode, gpu: true, r: fixed, batch: images }
      await expectAnswers(await openTraced(model, whole), [settings])
    }
  })

  it('has no branch and nothing whose size hangs on data, built for a GPU and one schedule', () => {
    const { layers } = model.encoder
    for (const r of [0, 8]) {
      const graph = decodeModel(model.buildGraph({ gpu: true, r: perLayer(r, layers), batch: images }))
      const operators = new Set([...allNodes(graph)].map(({ opType }) => opType))
      for (const waits of ['If', 'Compress', 'NonZero', 'Unique']) expect(operators).not.toContain(waits)
      const dims = graph.graph.input.map(({ type }) => type!.tensorType!.shape!.dim![0])
      expect(dims.map((dim) => Number(dim!.dimValue ?? 0))).toEqual([images, images, images, layers, layers])
    }
  })

  async function expectAnswers(
    run: Awaited<ReturnType<typeof openTraced>>,
    settings: Expected['settings'],
  ): Promise<void> {
    for (const { name, r, alpha, beta, gamma, ...answer } of settings) {
      const { tokens, sizes, source, ids } = await run({ pixels: expected.pixels, r, alpha, beta, gamma })
      expect(sizes, name).toEqual(answer.sizes)
      expect(source, name).toEqual(answer.source)
      expect(relativeError(tokens, answer.tokens), name).toBeLessThan(1e-5)
      expect(ids, name).toEqual(answer.ids)
    }
  }

  it('merges each image of a batch on its own', async () => {
    const run = await openTraced(model)
    const { sizes, source, ids } = await run({ pixels: expected.pixels, r: 8, alpha: 0.1 })
    for (let image = 0; image < images; image++) {
      const alone = await run({ pixels: picture(image), r: 8, alpha: 0.1 })
      expect(alone.sizes).toEqual([sizes[image]])
      expect(alone.source).toEqual([source[image]])
      expect(alone.ids[0]).toEqual(ids[image]!.slice(0, alone.ids[0]!.length))
    }
  })

  it('picks tokens by chance in mode random, the same ones every time', async () => {
    const random = await openTraced(model, { mode: 'random' })
    const turbo = await openTraced(model)
    const inputs = { pixels: expected.pixels, r: 8, alpha: 0.1 }
    const first = await random(inputs)
    expect(await random(inputs)).toEqual(first)
    expect(first.sizes.map((row) => row.length)).toEqual([41, 41, 41])
    expect(first.sizes.map(total)).toEqual([tokensIn, tokensIn, tokensIn])
    expect(first.source).not.toEqual((await turbo(inputs)).source)
  })
})

describe('in float16', () => {
  const inputs = () => ({ pixels: expected.pixels })

  it('is near the float32 graph, with the same captions', async () => {
    const run = await openTraced(model, { float16: true })
    const { tokens, ids } = await run(inputs())
    const error = relativeError(tokens, expected.hidden)
    expect(error).toBeGreaterThan(1e-5)
    expect(error).toBeLessThan(5e-3)
    expect(ids).toEqual(expected.ids)
  })

  it('merges as many tokens', async () => {
    const run = await openTraced(model, { float16: true })
    const { sizes } = await run({ ...inputs(), r: 8, alpha: 0.1 })
    expect(sizes.map((row) => row.length)).toEqual([41, 41, 41])
    expect(sizes.map(total)).toEqual([tokensIn, tokensIn, tokensIn])
  })
})

describe('weights stored in another type', () => {
  type Rounding = {
    type: SafetensorsType
    round(values: Float32Array): ArrayBufferView
    widen(v: ArrayBufferView): Float32Array
  }
  const roundings: Rounding[] = [
    {
      type: 'F16',
      round: (values) => Float16Array.from(values),
      widen: (stored) => Float32Array.from(stored as Float16Array),
    },
    {
      type: 'BF16',
      round: (values) => Uint16Array.from(new Uint32Array(values.buffer), (bits) => bits >>> 16),
      widen: (stored) =>
        new Float32Array(Uint32Array.from(stored as Uint16Array, (bits) => (bits << 16) >>> 0).buffer),
    },
  ]

  async function rewrite(
    folder: string,
    type: SafetensorsType,
    convert: (values: Float32Array) => ArrayBufferView,
  ): Promise<void> {
    const tensors = await readTensors(join(tinyBlip, weightsFile))
    const entries = Object.entries(tensors).map(([name, { shape, bytes }]: [string, TensorContent]) => [
      name,
      { type, shape, data: convert(new Float32Array(bytes.buffer)) },
    ])
    await writeSafetensors(join(folder, weightsFile), Object.fromEntries(entries))
  }

  const answer = async (folder: string, options?: GraphOptions) =>
    (await openTraced(await openBlip(folder), options))({ pixels: expected.pixels, r: 8, alpha: 0.1 })

  it.each(roundings)('$type gives what the same values give in F32', async ({ type, round, widen }) => {
    const stored = await withCopy((folder) => rewrite(folder, type, round), answer)
    const widened = await withCopy(
      (folder) => rewrite(folder, 'F32', (values) => widen(round(values))),
      answer,
    )
    expect(stored).toEqual(widened)
    const original = await answer(tinyBlip)
    expect(relativeError(stored.tokens, original.tokens)).toBeGreaterThan(0)
  })
})

it('has the beams and guards of its folder, and samples nothing', async () => {
  expect(model.generation).toMatchObject({ beams: 1, temperature: 0, noRepeatNgram: 0, maxTokens: 19 })
  const asked = { num_beams: 4, no_repeat_ngram_size: 2, do_sample: true, temperature: 0.7, max_length: 30 }
  const { generation } = await withCopy(
    (folder) => writeFile(join(folder, 'generation_config.json'), JSON.stringify(asked)),
    openBlip,
  )
  expect(generation).toMatchObject({ beams: 4, temperature: 0, noRepeatNgram: 2, maxTokens: 29 })
})

describe('a folder that is not whole', () => {
  const refusal = (change: (folder: string) => Promise<unknown>) =>
    withCopy(change, (folder) =>
      openBlip(folder).then(
        () => expect.fail('it was opened'),
        (error: Error) => {
          expect(error).toBeInstanceOf(ModelFolderError)
          expect(error.message).not.toContain('\n')
          return error.message
        },
      ),
    )

  async function editWeights(folder: string, edit: (tensors: Record<string, TensorContent>) => void) {
    const tensors = await readTensors(join(folder, weightsFile))
    edit(tensors)
    await writeSafetensors(
      join(folder, weightsFile),
      Object.fromEntries(
        Object.entries(tensors).map(([name, { type, shape, bytes }]) => [name, { type, shape, data: bytes }]),
      ),
    )
  }

  const biasName = 'vision_model.encoder.layers.2.mlp.fc1.bias'

  it('names a missing tensor and its shape', async () => {
    const message = await refusal((folder) =>
      editWeights(folder, (tensors) => {
        delete tensors[biasName]
      }),
    )
    expect(message).toContain(`lacks the tensor ${biasName} [48]`)
  })

  it('names a tensor of the wrong shape and both shapes', async () => {
    const message = await refusal((folder) =>
      editWeights(folder, (tensors) => {
        tensors[biasName]!.shape = [6, 8]
      }),
    )
    expect(message).toContain(`${biasName} has shape [6, 8], but config.json asks for [48]`)
  })

  it('names a tensor that is not of floats', async () => {
    const message = await refusal((folder) =>
      editWeights(folder, (tensors) => {
        tensors[biasName]!.type = 'I32'
      }),
    )
    expect(message).toContain(`${biasName} has type I32`)
  })

  it('checks the decoder too', async () => {
    const message = await refusal((folder) =>
      editJson(join(folder, 'config.json'), (config) => ({
        ...config,
        text_config: { ...(config.text_config as object), vocab_size: 62 },
      })),
    )
    expect(message).toMatch(/word_embeddings\.weight has shape \[61, 24\].* \[62, 24\]/)
  })

  it('asks for the weights', async () => {
    const message = await refusal((folder) => rm(join(folder, weightsFile)))
    expect(message).toMatch(/model\.safetensors cannot be read\. Pull the model again/)
  })

  it('says how to join weights in several files', async () => {
    const message = await refusal(async (folder) => {
      await rename(join(folder, weightsFile), join(folder, 'model-00001-of-00002.safetensors'))
      await writeFile(join(folder, `${weightsFile}.index.json`), '{"weight_map": {}}')
    })
    expect(message).toMatch(/split into several files\. Join them/)
  })

  it('refuses weights that are cut short', async () => {
    const message = await refusal(async (folder) => {
      await writeFile(join(folder, weightsFile), new Uint8Array(100))
    })
    expect(message).toMatch(/model\.safetensors is no safetensors file, or it is cut short/)
  })
})

it('takes pixels of its own size only', async () => {
  const session = await openSession(model.buildGraph(), model.folder)
  const feeds = {
    pixels: new ort.Tensor('uint8', new Uint8Array(32 * 32 * 3), [1, 32, 32, 3]),
    prompt: new ort.Tensor('int64', BigInt64Array.of(59n), [1, 1]),
    limit: new ort.Tensor('int64', BigInt64Array.of(10_000n), [1, 1]),
    r: new ort.Tensor('int64', new BigInt64Array(3), [3]),
    weight: new ort.Tensor('float32', new Float32Array(3), [3]),
  }
  await expect(session.run(feeds)).rejects.toThrow(/pixels/)
})
