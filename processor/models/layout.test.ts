import { describe, expect, test } from 'vitest'
import { type Dtype, dtypeSuffixes } from './exported/dtypes.ts'
import { chooseLayout, hubConfigSchema, type LayoutOptions } from './layout.ts'

const sessions: Record<string, string[]> = {
  idefics3: ['vision_encoder', 'embed_tokens', 'decoder_model_merged'],
  smolvlm: ['vision_encoder', 'embed_tokens', 'decoder_model_merged'],
  llava: ['vision_encoder', 'embed_tokens', 'decoder_model_merged'],
  qwen2_vl: ['vision_encoder', 'embed_tokens', 'decoder_model_merged'],
  florence2: ['vision_encoder', 'embed_tokens', 'decoder_model_merged', 'encoder_model'],
  'vision-encoder-decoder': ['encoder_model', 'decoder_model_merged'],
}
const beside = ['config.json', 'preprocessor_config.json', 'generation_config.json', 'tokenizer.json']
const others = [
  ...[
    'README.md',
    '.gitattributes',
    'model.safetensors',
    'pytorch_model.bin',
    'modeling_evil.py',
    'onnx/quantize_config.json',
  ],
  ...[
    'onnx/decoder_model.onnx',
    'onnx/decoder_with_past_model.onnx',
    'onnx/../../evil.onnx',
    '../config.json',
    '/etc/passwd',
  ],
]
const exported = (family: string, types: Dtype[]) => [
  ...beside,
  ...others,
  ...sessions[family]!.flatMap((session) =>
    types.map((type) => `onnx/${session}${dtypeSuffixes[type]}.onnx`),
  ),
]

function choose(family: string, options: Partial<LayoutOptions> & { js?: object } = {}) {
  const { js, ...rest } = options
  const config = hubConfigSchema.parse({ model_type: family, ...(js && { 'transformers.js_config': js }) })
  return chooseLayout({
    files: exported(family, ['fp32', 'fp16', 'q8', 'q4']),
    config,
    device: 'cpu',
    ...rest,
  })
}

describe('an exported model', () => {
  test.each(Object.keys(sessions))('%s: its sessions in one type, and what it needs beside', (family) => {
    expect(choose(family, { dtype: 'q4' })).toEqual({
      family,
      names: [...beside, ...sessions[family]!.map((session) => `onnx/${session}_q4.onnx`)],
      sessions: Object.fromEntries(sessions[family]!.map((session) => [session, 'q4'])),
    })
  })

  const all = (type: Dtype) => ({ vision_encoder: type, embed_tokens: type, decoder_model_merged: type })
  test.each<[string, Partial<LayoutOptions> & { js?: object }, object]>([
    ['fp32 on the CPU', {}, all('fp32')],
    ['fp16 on a GPU', { device: 'gpu' }, all('fp16')],
    [
      'fp32 on a GPU where there is no other',
      { device: 'gpu', files: exported('smolvlm', ['fp32', 'q8']) },
      all('fp32'),
    ],
    ['q4 on the CPU before q8', { files: exported('smolvlm', ['q4', 'q8', 'fp16']) }, all('q4')],
    ['q8 where there is nothing else', { files: exported('smolvlm', ['q8']) }, all('q8')],
    ['what the configuration says', { js: { dtype: 'q4' } }, all('q4')],
    [
      'what it says of a session',
      { js: { dtype: { embed_tokens: 'fp16', decoder_model_merged: 'q4' } } },
      { ...all('fp32'), embed_tokens: 'fp16', decoder_model_merged: 'q4' },
    ],
    ['another where it names one that is not there', { js: { dtype: 'bnb4' } }, all('fp32')],
    ['another where it names none', { js: { dtype: 'q1' } }, all('fp32')],
    ['another where it is malformed', { js: { dtype: 5, use_external_data_format: 'x' } }, all('fp32')],
    ['another where it names what objects have', { js: { dtype: 'constructor' } }, all('fp32')],
    ['what is asked for, whatever it says', { dtype: 'q8', js: { dtype: 'q4' } }, all('q8')],
  ])('auto is %s', (_name, options, expected) => {
    expect(choose('smolvlm', options).sessions).toEqual(expected)
  })

  test('types may differ where no type has all sessions', () => {
    const files = [
      ...exported('smolvlm', []),
      'onnx/vision_encoder.onnx',
      'onnx/embed_tokens.onnx',
      'onnx/decoder_model_merged_q4.onnx',
    ]
    expect(choose('smolvlm', { files }).sessions).toEqual({ ...all('fp32'), decoder_model_merged: 'q4' })
  })

  test('weights in files of their own come along', () => {
    const data = [
      'onnx/decoder_model_merged.onnx_data',
      'onnx/decoder_model_merged.onnx_data_1',
      'onnx/embed_tokens_q4.onnx_data',
    ]
    const files = [
      ...exported('smolvlm', ['fp32', 'q4']),
      ...data,
      'onnx/decoder_model_merged.onnx_data_x',
      'onnx/decoder_model_merged.onnx_database',
    ]
    const { names } = choose('smolvlm', { files })
    expect(names.filter((name) => name.includes('_data'))).toEqual(data.slice(0, 2))
  })

  test.each<[object, string]>([
    [{ use_external_data_format: { 'decoder_model_merged.onnx': 2 } }, 'lacks 1 of the 2 files'],
    [{ use_external_data_format: { vision_encoder: true } }, 'lacks 1 of the 1 files'],
  ])('whose weights are not all there is refused: %j', (js, message) => {
    const files = [...exported('smolvlm', ['fp32']), 'onnx/decoder_model_merged.onnx_data']
    expect(() => choose('smolvlm', { files, js })).toThrow(message)
  })

  test.each([true, 1])('what is said of all sessions holds for those that have such files: %j', (all) => {
    expect(choose('smolvlm', { js: { use_external_data_format: all } }).names).toHaveLength(7)
  })
})

test('a tagger is its model and its tags', () => {
  const files = [
    'model.onnx',
    'selected_tags.csv',
    'config.json',
    'model.safetensors',
    'sw_jax_cv_config.json',
  ]
  const layout = { family: 'tagger', names: ['config.json', 'selected_tags.csv', 'model.onnx'] }
  expect(chooseLayout({ files, config: undefined, device: 'cpu' })).toEqual(layout)
  expect(
    chooseLayout({ files: files.slice(0, 2), config: undefined, device: 'cpu', dtype: 'fp32' }).names,
  ).toHaveLength(2)
})

describe('refused in one line', () => {
  const blip = ['config.json', 'preprocessor_config.json', 'vocab.txt', 'model.safetensors']
  test.each<[string, string, Partial<LayoutOptions>, RegExp]>([
    [
      'a family that is not served',
      'clip',
      {},
      /type "clip"\. Choose one of type blip, .*florence2.*, or a WD tagger/,
    ],
    ['one without a name', '', {}, /type ""/],
    ['one with the name of what objects have', 'constructor', {}, /type "constructor"/],
    ['no ONNX files', 'smolvlm', { files: [...beside, 'model.safetensors'] }, /has no ONNX files/],
    [
      'a session in no type',
      'smolvlm',
      { files: exported('smolvlm', ['fp32']).filter((name) => !name.includes('embed')) },
      /has no onnx\/embed_tokens\.onnx, in no type/,
    ],
    [
      'a type that is not there',
      'smolvlm',
      { dtype: 'bnb4' },
      /no onnx\/vision_encoder_bnb4\.onnx\. All of its sessions are there as fp32, fp16, q8, q4\./,
    ],
    [
      'a type that one session has not',
      'smolvlm',
      { dtype: 'q4f16', files: [...exported('smolvlm', ['fp32']), 'onnx/vision_encoder_q4f16.onnx'] },
      /no onnx\/embed_tokens_q4f16\.onnx\. All of its sessions are there as fp32\./,
    ],
    [
      'no tokenizer',
      'smolvlm',
      { files: exported('smolvlm', ['fp32']).filter((name) => name !== 'tokenizer.json') },
      /has no tokenizer\.json/,
    ],
    ['a type of a BLIP', 'blip', { files: blip, dtype: 'q4' }, /TURBINE_PRECISION/],
    ['a type of a tagger', '', { files: ['model.onnx', 'selected_tags.csv'], dtype: 'fp16' }, /as fp32 only/],
  ])('%s', (_name, family, options, message) => {
    const thrown = (() => {
      try {
        return choose(Object.hasOwn(sessions, family) ? family : 'smolvlm', {
          ...options,
          config: hubConfigSchema.parse({ model_type: family }),
        })
      } catch (error) {
        return error as Error
      }
    })() as Error
    expect(thrown.message).toMatch(message)
    expect(thrown.message).not.toContain('\n')
  })
})
