import { appendFile, cp, mkdtemp, readFile, rm, truncate, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type OpenOptions, openModel } from '../open-model.ts'
import { referenceOf } from '../reference.fixture.ts'

let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-bad-folder-'))
})
afterEach(() => rm(folder, { recursive: true }))

type Json = Record<string, unknown>

async function copy(family: string): Promise<void> {
  const filter = (path: string) => !/\/reference(\/|$)/.test(path)
  await cp(referenceOf(family).folder, folder, { recursive: true, filter })
}

async function change(name: string, edit: (json: Json) => Json): Promise<void> {
  const file = join(folder, name)
  await writeFile(file, JSON.stringify(edit(JSON.parse(await readFile(file, 'utf8')))))
}
const set = (name: string, values: Json) => () => change(name, (json) => ({ ...json, ...values }))
const setIn = (part: string, values: Json) => () =>
  change('config.json', (json) => ({ ...json, [part]: { ...(json[part] as Json), ...values } }))
const all =
  (...changes: (() => Promise<unknown>)[]) =>
  async () => {
    for (const each of changes) await each()
  }

/** One more word, far behind the others. */
const strangeToken = () =>
  change('tokenizer.json', (json) => ({
    ...json,
    added_tokens: [
      ...(json.added_tokens as Json[]),
      {
        ...{ id: 100_000, content: '<strange>', special: true, single_word: false },
        ...{ lstrip: false, rstrip: false, normalized: false },
      },
    ],
  }))

const session = { intraOpNumThreads: 1 }

/** Opens and tests a folder as a start does; the message of the refusal. */
async function refusal(options: OpenOptions = {}): Promise<string> {
  const start = async () => (await openModel(folder, options)).selfTest?.({ session })
  const error: unknown = await start().catch((error: unknown) => error)
  expect(error).toMatchObject({ name: 'ModelFolderError' })
  return (error as Error).message
}

describe('a start refuses in one line', () => {
  it.each<[string, string, () => Promise<unknown>, RegExp]>([
    [
      'smolvlm',
      'more rows for a tile than its vision session gives',
      all(set('config.json', { scale_factor: 1 }), set('processor_config.json', { image_seq_len: 64 })),
      /gives 16 rows of 64 for a picture, where .* have 64 of 64/,
    ],
    [
      'llava',
      'fewer rows for a picture',
      all(set('processor_config.json', { patch_size: 16 }), setIn('vision_config', { patch_size: 16 })),
      /rows of \d+ for a picture, where/,
    ],
    [
      'qwen2-vl',
      'patches that are joined otherwise',
      all(
        set('preprocessor_config.json', { merge_size: 1 }),
        setIn('vision_config', { spatial_merge_size: 1 }),
      ),
      /rows of \d+ for a picture, where|cannot be run on a picture/,
    ],
    [
      'florence2',
      'other rows than its processor says',
      set('preprocessor_config.json', { image_seq_length: 7 }),
      /where .* have 7 of 64/,
    ],
    [
      'vit-gpt2',
      'another size of pictures than its encoder takes',
      set('preprocessor_config.json', { size: { height: 32, width: 32 } }),
      /cannot be run on a picture/,
    ],
    ...['smolvlm', 'llava', 'qwen2-vl', 'florence2', 'vit-gpt2'].map(
      (family): [string, string, () => Promise<unknown>, RegExp] => [
        family,
        'a tokenizer of more words than the decoder',
        strangeToken,
        /ids up to 100000; the decoder knows \d+/,
      ],
    ),
    [
      'smolvlm',
      'an end that is no id',
      set('generation_config.json', { eos_token_id: 50_000 }),
      /has the id 50000; the decoder knows/,
    ],
    [
      'florence2',
      'a start that is no id',
      set('generation_config.json', { decoder_start_token_id: 50_000 }),
      /has the id 50000/,
    ],
    [
      'wd-tagger',
      'another number of tags than scores',
      all(
        () => appendFile(join(folder, 'selected_tags.csv'), '1,one_more,0,1\n'),
        () => change('config.json', ({ num_classes: _, ...json }) => json),
      ),
      /scores \[1,39\] for the 40 tags/,
    ],
    [
      'llava',
      'a session that is missing',
      () => rm(join(folder, 'onnx', 'embed_tokens.onnx')),
      /has no onnx\/embed_tokens\.onnx, in no type/,
    ],
    [
      'llava',
      'a session that is cut off',
      () => truncate(join(folder, 'onnx', 'decoder_model_merged.onnx'), 20_000),
      /decoder_model_merged\.onnx/,
    ],
  ])('%s with %s', async (family, _, edit, message) => {
    await copy(family)
    await edit()
    const refused = await refusal()
    expect(refused).toMatch(message)
    expect(refused).not.toContain('\n')
  })

  it.each([
    ['smolvlm', 'q4f16', /All of its sessions are there as fp32, fp16, q8, q4\./],
    ['wd-tagger', 'fp16', /as fp32 only/],
  ] as const)('%s that is not there as %s', async (family, dtype, message) => {
    await copy(family)
    expect(await refusal({ dtype })).toMatch(message)
  })
})

it('opens the type of weights that is asked for, or by the device', async () => {
  const { folder } = referenceOf('smolvlm')
  const typeOf = async (options: OpenOptions) => (await openModel(folder, options)).dtype
  expect(await typeOf({})).toBe('fp32')
  expect(await typeOf({ device: 'gpu' })).toBe('fp16')
  expect(await typeOf({ dtype: 'q4', device: 'gpu' })).toBe('q4')
})

it('is another model when its weights, processor or tokenizer are', async () => {
  const { weightFiles } = await openModel(referenceOf('llava').folder)
  for (const name of ['onnx/decoder_model_merged.onnx', 'processor_config.json', 'tokenizer.json'])
    expect(weightFiles).toContain(name)
  expect((await openModel(referenceOf('vit-gpt2').folder)).weightFiles).not.toContain('processor_config.json')
})
