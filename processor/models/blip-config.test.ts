import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { ModelFolderError } from '../onnx/weights.ts'
import { readBlipConfig } from './blip-config.ts'
import { editJson, withCopy } from './tiny-blip.fixture.ts'

type Edit = (json: Record<string, unknown>) => unknown
const edited = (name: string, edit: Edit) => (folder: string) => editJson(join(folder, name), edit)
const inside = (section: string, fields: Record<string, unknown>) =>
  edited('config.json', (config) => ({
    ...config,
    [section]: { ...(config[section] as object), ...fields },
  }))
const preprocessor = (fields: Record<string, unknown>) =>
  edited('preprocessor_config.json', (json) => ({ ...json, ...fields }))

const read = (change: (folder: string) => Promise<unknown>) => withCopy(change, readBlipConfig)

/** The message of the refusal, after the path of the folder. */
const refusal = (change: (folder: string) => Promise<unknown>) =>
  withCopy(change, (folder) =>
    readBlipConfig(folder).then(
      () => expect.fail('it was read'),
      (error: Error) => {
        expect(error).toBeInstanceOf(ModelFolderError)
        expect(error.message).not.toContain('\n')
        return error.message.replace(`${folder}/`, '')
      },
    ),
  )

describe('what a folder leaves out', () => {
  it('has the defaults of Hugging Face', async () => {
    const config = await read(async (folder) => {
      await writeFile(join(folder, 'config.json'), '{"model_type": "blip"}')
      await writeFile(join(folder, 'preprocessor_config.json'), '{}')
      await rm(join(folder, 'generation_config.json'))
    })
    expect(config.vision).toEqual({
      hidden_size: 768,
      intermediate_size: 3072,
      num_hidden_layers: 12,
      num_attention_heads: 12,
      image_size: 384,
      patch_size: 16,
      hidden_act: 'gelu',
      layer_norm_eps: 1e-5,
    })
    expect(config.text).toEqual({
      vocab_size: 30524,
      hidden_size: 768,
      encoder_hidden_size: 768,
      intermediate_size: 3072,
      num_hidden_layers: 12,
      num_attention_heads: 8,
      max_position_embeddings: 512,
      hidden_act: 'gelu',
      layer_norm_eps: 1e-12,
      bos_token_id: 30522,
      sep_token_id: 102,
      pad_token_id: 0,
    })
    expect(config.resample).toBe('bicubic')
    expect(config.maxLength).toBe(20)
    config.normalise.scale.forEach((scale, channel) => {
      const mean = [0.48145466, 0.4578275, 0.40821073][channel]!
      const std = [0.26862954, 0.26130258, 0.27577711][channel]!
      expect(scale * 200 + config.normalise.shift[channel]!).toBeCloseTo((200 / 255 - mean) / std, 10)
    })
  })
})

describe('normalisation', () => {
  it('can be off', async () => {
    const { normalise } = await read(preprocessor({ do_normalize: false }))
    expect(normalise.scale).toEqual([1 / 255, 1 / 255, 1 / 255])
    expect(normalise.shift.map(Math.abs)).toEqual([0, 0, 0])
  })

  it('can be of pixels 0 to 255', async () => {
    const { normalise } = await read(
      preprocessor({ do_rescale: false, image_mean: [127, 100, 0], image_std: [2, 4, 8] }),
    )
    expect(normalise.scale).toEqual([1 / 2, 1 / 4, 1 / 8])
    expect(normalise.shift).toEqual([-63.5, -25, -0])
  })
})

describe('length of a caption', () => {
  const generation = (json: object) => (folder: string) =>
    writeFile(join(folder, 'generation_config.json'), JSON.stringify(json))

  it('comes from generation_config.json, the start token counted', async () => {
    expect((await read(generation({ max_length: 12 }))).maxLength).toBe(12)
    expect((await read(generation({ max_new_tokens: 12 }))).maxLength).toBe(13)
    expect((await read(generation({ max_length: null }))).maxLength).toBe(20)
  })

  it('else from the text configuration', async () => {
    expect((await read(inside('text_config', { max_length: 9 }))).maxLength).toBe(9)
  })

  it('is no longer than there are positions', async () => {
    expect((await read(generation({ max_new_tokens: 100 }))).maxLength).toBe(32)
  })
})

describe('resample', () => {
  it.each([
    [0, 'nearest'],
    [1, 'lanczos3'],
    [2, 'bilinear'],
    [3, 'bicubic'],
  ])('%d is %s', async (resample, kernel) => {
    expect((await read(preprocessor({ resample }))).resample).toBe(kernel)
  })
})

it('takes a size that is one number', async () => {
  expect((await read(preprocessor({ size: 64 }))).vision.image_size).toBe(64)
})

describe('a refusal is one line that names the file and the field', () => {
  it.each<[string, (folder: string) => Promise<unknown>, RegExp]>([
    [
      'config.json is missing',
      (folder) => rm(join(folder, 'config.json')),
      /^config\.json is missing\. A model folder needs/,
    ],
    [
      'preprocessor_config.json is missing',
      (folder) => rm(join(folder, 'preprocessor_config.json')),
      /^preprocessor_config\.json is missing/,
    ],
    [
      'config.json is no JSON',
      (folder) => writeFile(join(folder, 'config.json'), '{"model_type": '),
      /^config\.json is not JSON/,
    ],
    [
      'config.json is a list',
      (folder) => writeFile(join(folder, 'config.json'), '[]'),
      /^config\.json: the file: /,
    ],
    [
      'another family',
      edited('config.json', () => ({ model_type: 'clip' })),
      /^config\.json: model_type: .*"blip"/,
    ],
    [
      'a width that is text',
      inside('vision_config', { hidden_size: '32' }),
      /^config\.json: vision_config\.hidden_size: /,
    ],
    [
      'no layers',
      inside('text_config', { num_hidden_layers: 0 }),
      /^config\.json: text_config\.num_hidden_layers: /,
    ],
    [
      'another activation',
      inside('vision_config', { hidden_act: 'quick_gelu' }),
      /vision_config\.hidden_act: .*"gelu"/,
    ],
    [
      'heads that do not fit',
      inside('vision_config', { num_attention_heads: 5 }),
      /vision_config\.hidden_size is not a multiple of num_attention_heads/,
    ],
    [
      'text heads that do not fit',
      inside('text_config', { num_attention_heads: 5 }),
      /text_config\.hidden_size is not a multiple of num_attention_heads/,
    ],
    [
      'patches that do not fit',
      inside('vision_config', { patch_size: 7 }),
      /image_size is not a multiple of patch_size/,
    ],
    [
      'a decoder for wider tokens',
      inside('text_config', { encoder_hidden_size: 48 }),
      /encoder_hidden_size differs/,
    ],
    [
      'another size of picture',
      preprocessor({ size: { height: 64, width: 48 } }),
      /^preprocessor_config\.json: size must be 64 x 64, as in config\.json, got 64 x 48/,
    ],
    [
      'a size by its short side',
      preprocessor({ size: { shortest_edge: 64 } }),
      /^preprocessor_config\.json: size: /,
    ],
    [
      'an unknown kernel',
      preprocessor({ resample: 4 }),
      /^preprocessor_config\.json: resample must be 0 \(nearest\), .*, got 4/,
    ],
    ['no resizing', preprocessor({ do_resize: false }), /^preprocessor_config\.json: do_resize: /],
    ['two channels', preprocessor({ image_mean: [0, 0] }), /^preprocessor_config\.json: image_mean: /],
    [
      'a deviation of 0',
      preprocessor({ image_std: [0, 1, 1] }),
      /^preprocessor_config\.json: image_std\.0: /,
    ],
    [
      'a length of 0',
      (folder) => writeFile(join(folder, 'generation_config.json'), '{"max_length": 0}'),
      /^generation_config\.json: max_length: /,
    ],
  ])('%s', async (_, change, message) => {
    expect(await refusal(change)).toMatch(message)
  })
})
