import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Graph } from '../../onnx/graph.ts'
import { type Int, runtimeDomain, type Value } from '../../onnx/operators.ts'
import { openSession } from '../../onnx/session.ts'
import { decoderGraph } from './decoder-graph.ts'
import { type Generator, openGenerator } from './generator.ts'
import type { GenerateMetadata } from './graph.ts'
import { seededUniforms } from './random.ts'
import type { GenerateRow } from './rows.ts'
import { type Originals, openOriginal, stepByStep } from './step-by-step.ts'

const [vocabulary, width, heads, keyHeads, headWidth] = [60, 32, 4, 2, 16]
const endIds = [3]
type Float32 = Value<'float32'>

const random = seededUniforms(11)
const weight = (g: Graph, ...dims: number[]): Float32 => {
  const count = dims.reduce((a, b) => a * b, 1)
  const scale = 3 / Math.sqrt(dims[0]!)
  return g.floats(
    Array.from({ length: count }, () => (random() - 0.5) * scale),
    dims,
  )
}
const rms = (g: Graph, x: Float32) =>
  g.op('SimplifiedLayerNormalization', [x, weight(g, width)], ['float32'], {
    axis: -1,
    epsilon: { float: 1e-5 },
  })[0]

function embedTokens(): Uint8Array {
  const g = new Graph()
  const ids = g.input('input_ids', 'int64', ['batch_size', 'sequence_length'])
  g.output('inputs_embeds', g.gather(weight(g, vocabulary, width), ids), [
    'batch_size',
    'sequence_length',
    width,
  ])
  return g.toModel()
}

/** Keys and values as GroupQueryAttention keeps them: a row's from slot 0 on, counted by the mask's sum. */
function attentionCaches(g: Graph, x: Float32, mask: Int, layer: number): Float32 {
  const past = ['key', 'value'].map((kind) =>
    g.input(`past_key_values.${layer}.${kind}`, 'float32', [
      'batch_size',
      keyHeads,
      'past_sequence_length',
      headWidth,
    ]),
  )
  const counts = g.cast(g.sub(g.sum(mask, 1), g.ints(1)), 'int32')
  const total = g.cast(g.toScalar(g.shape(mask, 1, 2)), 'int32')
  const angles = (of: (angle: number) => number) =>
    g.floats(
      Array.from({ length: 128 * (headWidth / 2) }, (_, i) =>
        of(Math.floor(i / (headWidth / 2)) / 10 ** (i % (headWidth / 2))),
      ),
      [128, headWidth / 2],
    )
  const [query, key, value] = [heads, keyHeads, keyHeads].map((count) =>
    g.matmul(x, weight(g, width, count * headWidth)),
  )
  const [attended, ...present] = g.op(
    'GroupQueryAttention',
    [query, key, value, ...past, counts, total, angles(Math.cos), angles(Math.sin)],
    ['float32', 'float32', 'float32'],
    { num_heads: heads, kv_num_heads: keyHeads, do_rotary: 1 },
    runtimeDomain,
  )
  for (const [i, kind] of ['key', 'value'].entries())
    g.output(`present.${layer}.${kind}`, present[i]!, [
      'batch_size',
      keyHeads,
      'total_sequence_length',
      headWidth,
    ])
  return g.matmul(attended, weight(g, heads * headWidth, width))
}

/** A short convolution over ids, whose state is at the end of a row: the last two inputs. */
function convolutionState(g: Graph, x: Float32, _mask: Int, layer: number): Float32 {
  const past = g.input(`past_conv.${layer}`, 'float32', ['batch_size', width, 2])
  const all = g.concat([past, g.transpose(x, [0, 2, 1])], 2)
  g.output(`present_conv.${layer}`, g.slice(all, 2, -2), ['batch_size', width, 2])
  const convolved = g.op('Conv', [all, weight(g, width, 1, 3)], ['float32'], {
    group: width,
    kernel_shape: [3],
  })[0]
  return g.transpose(convolved, [0, 2, 1])
}

function decoder(layers: (typeof attentionCaches)[]): Uint8Array {
  const g = new Graph()
  let x: Float32 = g.input('inputs_embeds', 'float32', ['batch_size', 'sequence_length', width])
  const mask = g.input('attention_mask', 'int64', ['batch_size', 'total_sequence_length'])
  for (const [layer, build] of layers.entries()) x = g.add(x, build(g, rms(g, x), mask, layer))
  const logits = g.matmul(rms(g, x), weight(g, width, vocabulary))
  g.output('logits', logits, ['batch_size', 'sequence_length', vocabulary])
  return g.toModel()
}

describe.each([
  [
    'keys that follow each other',
    [attentionCaches, attentionCaches],
    { contiguous: true, equalLengths: false },
  ],
  [
    'states at the end of a row',
    [convolutionState, attentionCaches],
    { contiguous: true, equalLengths: true },
  ],
] as const)('a decoder with %s', (_, layers, told) => {
  let folder: string
  let generator: Generator
  let metadata: GenerateMetadata
  let originals: Originals
  let expected: number[][]
  const rows = [9, 4, 12, 4, 7].map((length, seed): GenerateRow => {
    const uniform = seededUniforms(seed)
    return {
      ids: Array.from({ length }, () => 4 + Math.floor(uniform() * 50)),
      places: [1, 2],
      features: Float32Array.from({ length: 2 * width }, () => uniform() - 0.5),
      settings: { maxTokens: 6 + seed * 3, temperature: 0, topP: 1, repetitionPenalty: 1, noRepeatNgram: 0 },
    }
  })

  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'turbine-forms-'))
    const files = {
      embed: join(folder, 'embed_tokens.onnx'),
      decoder: join(folder, 'decoder_model_merged.onnx'),
    }
    await writeFile(files.embed, embedTokens())
    await writeFile(files.decoder, decoder([...layers]))
    const built = decoderGraph({ folder, ...files, endIds, padId: 0 })
    metadata = built.metadata
    generator = openGenerator({
      session: await openSession(built.model, folder, { intraOpNumThreads: 1 }),
      metadata,
    })
    originals = {
      embed: await openOriginal(files.embed, folder),
      decoder: await openOriginal(files.decoder, folder),
    }
    expected = []
    for (const row of rows)
      expected.push((await stepByStep(originals, row, { endIds, steps: row.settings.maxTokens })).ids)
  })
  afterAll(() => rm(folder, { recursive: true }))

  it('says what it is', () => {
    expect(metadata).toMatchObject(told)
    expect(new Set(expected.flat()).size).toBeGreaterThan(10)
  })

  it.each([undefined, 1, 4])('gives the ids of single rows in a batch, %s ids a run', async (chunk) => {
    expect((await generator.generate(rows, { chunk })).map(({ ids }) => ids)).toEqual(expected)
  })

  it('gives them to rows that join too', async () => {
    const rest = rows.slice(1)
    const joined = await generator.generate(rows.slice(0, 1), { chunk: 3, more: () => rest.splice(0, 1) })
    expect(joined.map(({ ids }) => ids)).toEqual(expected)
  })
})
