import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { decodeModel, encodeModel, type ModelProto, type ValueInfoProto } from '../../onnx/proto.ts'
import { ModelFolderError } from '../../onnx/weights.ts'
import { openModel } from '../open-model.ts'
import { referenceOf } from '../reference.fixture.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-refused-'))
})
afterEach(() => rm(folder, { recursive: true }))

type Json = Record<string, unknown>

/** A copy of a tiny model in float32, in which one file has other fields. */
async function changed(family: string, name: string, edit: (json: Json) => Json): Promise<void> {
  await cp(referenceOf(family).folder, folder, {
    recursive: true,
    filter: (path) => !/\/reference|_(fp16|q4|quantized)\./.test(path),
  })
  const json = JSON.parse(await readFile(join(folder, name), 'utf8'))
  await writeFile(join(folder, name), JSON.stringify(edit(json)))
}

const set = (values: Json) => (json: Json) => ({ ...json, ...values })
const setIn =
  (part: string, edit: (json: Json) => Json) =>
  (json: Json): Json => ({ ...json, [part]: edit(json[part] as Json) })
const moreWords = setIn('model', setIn('vocab', set({ zzz: 5000 })))
const square = (side: number) => ({ height: side, width: side })

/** The caches of a decoder with a width that has a name, as onnxruntime-genai's builder writes them. */
async function withoutHeadWidth(): Promise<void> {
  const file = join(folder, 'onnx/decoder_model_merged.onnx')
  const model = decodeModel(await readFile(file))
  const ofCache = ({ name }: ValueInfoProto) => /^(past|present)/.test(name)
  for (const info of [...model.graph.input, ...model.graph.output].filter(ofCache)) {
    const { shape } = info.type!.tensorType!
    shape!.dim[3] = { dimParam: 'kv_cache_dim' }
  }
  await writeFile(file, encodeModel(model))
}

/** Until it is served. */
async function open(): Promise<void> {
  const model = await openModel(folder)
  await model.selfTest?.({ session: { intraOpNumThreads: 1 } })
}

describe('a folder whose files do not fit each other is refused in one line', () => {
  it.each<[string, string, string, (json: Json) => Json, RegExp]>([
    [
      'smolvlm',
      'more words than logits',
      'tokenizer.json',
      moreWords,
      /has ids up to 5000; the decoder knows 419/,
    ],
    ['smolvlm', 'no words', 'tokenizer.json', setIn('model', set({ vocab: {}, merges: [] })), /tokenizer/],
    [
      'smolvlm',
      'an end beyond the logits',
      'generation_config.json',
      set({ eos_token_id: [418, 419] }),
      /the id 419; the decoder knows 419/,
    ],
    [
      'qwen2-vl',
      'a padding beyond the logits',
      'generation_config.json',
      set({ pad_token_id: 5000 }),
      /the id 5000; the decoder knows/,
    ],
    [
      'vit-gpt2',
      'a start beyond the logits',
      'generation_config.json',
      set({ decoder_start_token_id: 5000 }),
      /the id 5000; the decoder knows/,
    ],
    [
      'smolvlm',
      'ends without end',
      'generation_config.json',
      set({ eos_token_id: Array.from({ length: 100_000 }, (_, id) => id) }),
      /eos_token_id/,
    ],
    [
      'florence2',
      'tasks without end',
      'preprocessor_config.json',
      set({
        task_prompts_without_inputs: Object.fromEntries(
          Array.from({ length: 200 }, (_, at) => [`<T${at}>`, '']),
        ),
      }),
      /more than 50 tasks/,
    ],
    [
      'llava',
      'pictures of another size',
      'preprocessor_config.json',
      set({ size: { shortest_edge: 96 }, crop_size: square(96) }),
      /takes pictures of 64 x 64 pixels; .* makes them 96 x 96/,
    ],
    [
      'florence2',
      'pictures of another size',
      'preprocessor_config.json',
      set({ size: square(32), crop_size: square(32) }),
      /takes pictures of 64 x 64 pixels/,
    ],
    [
      'wd-tagger',
      'pictures of another size',
      'config.json',
      setIn('pretrained_cfg', set({ input_size: [3, 8192, 8192] })),
      /takes pictures of 64 x 64 pixels/,
    ],
    [
      'vit-gpt2',
      'pictures of a size that the encoder cannot run',
      'preprocessor_config.json',
      set({ size: square(96) }),
      /cannot be run on a picture/,
    ],
    [
      'llava',
      'image tokens that are not the rows of the encoder',
      'processor_config.json',
      set({ num_additional_image_tokens: 10 }),
      /64.*74|74.*64/,
    ],
  ])('%s: %s', async (family, _, name, edit, message) => {
    await changed(family, name, edit)
    const refused = await open().then(
      () => undefined,
      (error: unknown) => error,
    )
    expect(refused).toBeInstanceOf(ModelFolderError)
    expect((refused as Error).message).toMatch(message)
    expect((refused as Error).message).not.toContain('\n')
  })
})

describe('a session that nobody foresaw is refused with the name of its folder', () => {
  it.each<[string, (model: ModelProto) => void, RegExp]>([
    [
      'an operator that there is not',
      ({ graph }) => (graph.node[3]!.opType = 'Nonesuch'),
      /Nonesuch|invalid/,
    ],
    ['a circle', ({ graph }) => (graph.node[0]!.input[0] = graph.node.at(-1)!.output[0]!), /circular/],
    ['two nodes of one name', ({ graph }) => graph.node.push(graph.node[0]!), /./],
    ['a newer format', (model) => (model.irVersion = 999), /./],
  ])('%s', async (_, edit, message) => {
    await changed('smolvlm', 'config.json', (json) => json)
    const file = join(folder, 'onnx/decoder_model_merged.onnx')
    const model = decodeModel(await readFile(file))
    edit(model)
    await writeFile(file, encodeModel(model))
    const refused = await open().catch((error: unknown) => error)
    expect(refused).toBeInstanceOf(ModelFolderError)
    expect((refused as Error).message).toMatch(message)
    expect((refused as Error).message).toContain(folder)
    expect((refused as Error).message).not.toContain('\n')
  })
})

describe('a decoder that does not tell the width of its heads', () => {
  const text = (edit: (text: Json) => Json) => setIn('text_config', edit)
  const without = ({ head_dim: _, ...text }: Json) => text

  it.each([
    ['head_dim', (json: Json) => json],
    [
      'its width and the number of heads',
      text((json) => ({ ...without(json), hidden_size: 64, num_attention_heads: 4 })),
    ],
  ])('has it from config.json: %s', async (_, edit) => {
    await changed('smolvlm', 'config.json', edit)
    await withoutHeadWidth()
    await expect(open()).resolves.toBeUndefined()
  })

  it('is refused without it', async () => {
    await changed(
      'smolvlm',
      'config.json',
      text((json) => ({ ...without(json), num_attention_heads: null })),
    )
    await withoutHeadWidth()
    await expect(open()).rejects.toThrow(/does not tell the sizes of past_key_values\.0\.key/)
  })
})
