import { cp, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { bundledModel } from '../../infra/starter-model/folder.ts'
import { startFakeHub } from '../models/hub.fixture.ts'
import { UsageError } from './errors.ts'
import { runModelList, runPull, runShow } from './models.ts'

const id = 'acme/captioner'
const files = {
  'config.json': '{"model_type": "blip"}',
  'preprocessor_config.json': '{}',
  'vocab.txt': 'a\n',
  'model.safetensors': 'weights',
}

let folder: string

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-models-'))
})
afterEach(() => rm(folder, { recursive: true }))

function environmentOf(env: Record<string, string> = {}) {
  const printed = { stdout: '', stderr: '' }
  const environment = {
    dataDir: async () => folder,
    bundledModel: join(folder, 'bundled'),
    env,
    stdout: { write: (text: string) => (printed.stdout += text) },
    stderr: { write: (text: string) => (printed.stderr += text) },
    sleep: async () => {},
  }
  return { environment, printed }
}

test('a pulled model lies in the data folder, and standard output has the line to use it', async () => {
  const hub = await startFakeHub({ id, files })
  try {
    const { environment, printed } = environmentOf({ HF_ENDPOINT: hub.endpoint, HF_TOKEN: 'secret' })
    await runPull(id, { revision: 'main' }, environment)
    const target = join(folder, 'models', 'acme--captioner')
    expect(await readFile(join(target, 'model.safetensors'), 'utf8')).toBe('weights')
    expect(printed.stdout).toBe(`npx turbine serve --model ${target}\n`)
    expect(printed.stderr).toContain('model.safetensors')
    expect(printed.stderr).toContain('Pulled acme/captioner')
    expect(printed.stderr).not.toContain('secret')
    expect(hub.requests[0]!.authorization).toBe('Bearer secret')
  } finally {
    await hub.close()
  }
})

test.each(['blip', '../x', 'a/b/c', 'a/..', ''])('%j is no name of a model', async (name) => {
  await expect(runPull(name, { revision: 'main' }, environmentOf().environment)).rejects.toThrow(UsageError)
})

test('an HF_ENDPOINT that is no address is refused', async () => {
  const { environment } = environmentOf({ HF_ENDPOINT: 'mirror' })
  await expect(runPull(id, { revision: 'main' }, environment)).rejects.toThrow(/HF_ENDPOINT is "mirror"/)
})

test('the list has the bundled model and the pulled ones, and says which are incomplete', async () => {
  const { environment, printed } = environmentOf()
  for (const [name, weights] of [
    ['bundled', 'x'.repeat(1998)],
    ['models/acme--captioner', 'x'.repeat(4_999_998)],
    ['models/acme--half', ''],
  ] as const) {
    await mkdir(join(folder, name), { recursive: true })
    await writeFile(join(folder, name, 'config.json'), '{}')
    if (weights) await writeFile(join(folder, name, 'model.safetensors'), weights)
  }
  await runModelList(environment)
  const rows = printed.stdout.trimEnd().split('\n')
  expect(rows.map((row) => row.split(/ {2,}/).slice(0, 2))).toEqual([
    ['starter (bundled)', '2.0 kB'],
    ['acme/captioner', '5.0 MB'],
    ['acme/half', 'incomplete'],
  ])
})

test('without pulled models the list has the bundled one', async () => {
  const { environment, printed } = environmentOf()
  await runModelList(environment)
  expect(printed.stdout.trimEnd().split('\n')).toHaveLength(1)
})

test('the size and the type are told before the weights are loaded, and a type has its own folder', async () => {
  const exported = {
    ...{
      'config.json': '{"model_type": "smolvlm"}',
      'preprocessor_config.json': '{}',
      'tokenizer.json': '{}',
    },
    ...{ 'onnx/vision_encoder_q4.onnx': 'v', 'onnx/embed_tokens_q4.onnx': 'e' },
    'onnx/decoder_model_merged_q4.onnx': 'd'.repeat(1_000_000),
  }
  const hub = await startFakeHub({ id, files: exported })
  try {
    const { environment, printed } = environmentOf({ HF_ENDPOINT: hub.endpoint })
    await runPull(id, { revision: 'main', dtype: 'q4' }, environment)
    expect(printed.stderr.split('\n')[0]).toBe('acme/captioner: smolvlm, q4, 6 files, 1.0 MB')
    const target = join(folder, 'models', 'acme--captioner--q4')
    expect(printed.stdout).toBe(`npx turbine serve --model ${target}\n`)
    printed.stdout = ''
    await runModelList(environment)
    expect(printed.stdout).toContain('acme/captioner (q4)')
    expect(printed.stdout).not.toMatch(/acme\/captioner.*incomplete/)
  } finally {
    await hub.close()
  }
})

test('auto is by the device', async () => {
  const sessions = ['vision_encoder', 'embed_tokens', 'decoder_model_merged']
  const exported = {
    ...{
      'config.json': '{"model_type": "smolvlm"}',
      'preprocessor_config.json': '{}',
      'tokenizer.json': '{}',
    },
    ...Object.fromEntries(
      sessions.flatMap((name) => [`onnx/${name}.onnx`, `onnx/${name}_fp16.onnx`].map((file) => [file, 'x'])),
    ),
  }
  const hub = await startFakeHub({ id, files: exported })
  try {
    const { environment, printed } = environmentOf({ HF_ENDPOINT: hub.endpoint })
    await runPull(
      id,
      { revision: 'main', dtype: 'auto' },
      { ...environment, deviceKind: async () => 'gpu' as const },
    )
    expect(printed.stderr).toContain('smolvlm, fp16, 6 files')
  } finally {
    await hub.close()
  }
})

test('a model is shown with its sessions, its pruning and what it can', async () => {
  const { environment, printed } = environmentOf()
  await runShow(bundledModel, {}, environment)
  expect(printed.stdout).toMatch(/family +blip/)
  expect(printed.stdout).toMatch(/Turbo +in blocks 0, 1/)
  expect(printed.stdout).toMatch(/text +not followed/)
  printed.stdout = ''
  await runShow(bundledModel, { json: true }, environment)
  expect(JSON.parse(printed.stdout)).toMatchObject({
    can: { family: 'blip', follows_text: 'none', max_images: 1 },
    sessions: [{ name: 'model', file: 'model.safetensors' }],
    tokens: { in: 197 },
  })
})

const fixture = (family: string) =>
  fileURLToPath(new URL(`../../test/fixtures/models/${family}`, import.meta.url))

test.each([
  ['smolvlm', {}, /Turbo +in blocks 0, 1/, /weights +fp32/],
  [
    'smolvlm',
    {},
    /tokens of 640 x 480 pixels +\d+, after pruning [\d, ]+; \d+ of the prompt/,
    /context length +\d+/,
  ],
  ['smolvlm', { dtype: 'q8' }, /note +not batch-invariant/, /weights +q8/],
  ['qwen2-vl', {}, /Turbo +nowhere: its positions are rotary/, /parameters .*repetition_penalty/],
  ['florence2', {}, /Turbo +nowhere: \w+/, /parameters .*num_beams/],
  ['vit-gpt2', {}, /Turbo +in blocks 0, 1/, /tokens of a picture +65, after pruning 65, 56/],
  ['wd-tagger', {}, /Turbo +in blocks 0, 1/, /output +tags/],
])('%s is shown, as %j', async (family, flags, turbo, other) => {
  const { environment, printed } = environmentOf()
  const opening = async (dtype?: string) => (dtype === undefined ? {} : { dtype: dtype as 'q8' })
  await runShow(fixture(family), flags, { ...environment, opening })
  expect(printed.stdout).toMatch(turbo)
  expect(printed.stdout).toMatch(other)
  if (!('dtype' in flags)) expect(printed.stdout).not.toContain('not batch-invariant')
})

test('a tagger, which makes no tokens, has no maximum of them', async () => {
  const { environment, printed } = environmentOf()
  await runShow(fixture('wd-tagger'), {}, environment)
  expect(printed.stdout).toMatch(/parameters +stop$/m)
  expect(printed.stdout).not.toMatch(/max_tokens|maximum of tokens|context length/)
})

test('what a folder asks for and the model does not do is told', async () => {
  const { environment, printed } = environmentOf()
  const target = join(folder, 'searching')
  await cp(fixture('smolvlm'), target, { recursive: true })
  const file = join(target, 'generation_config.json')
  const json = JSON.parse(await readFile(file, 'utf8'))
  await writeFile(file, JSON.stringify({ ...json, num_beams: 4, typical_p: 0.9 }))
  await runShow(target, {}, environment)
  expect(printed.stdout).toMatch(/note +generation_config\.json asks for num_beams 4, which is not done/)
  await writeFile(file, JSON.stringify({ ...json, suppress_tokens: [999_999] }))
  printed.stdout = ''
  await expect(runShow(target, {}, environment)).rejects.toMatchObject({ code: 'incomplete' })
  expect(printed.stdout).toMatch(/refused .*generation_config.json has the id 999999; the decoder knows/)
})

test('a type that is not there is told', async () => {
  const { environment, printed } = environmentOf()
  const opening = async () => ({ dtype: 'bnb4' as const })
  await expect(runShow(fixture('smolvlm'), {}, { ...environment, opening })).rejects.toMatchObject({
    code: 'incomplete',
  })
  expect(printed.stdout).toMatch(/refused .*has no onnx\/vision_encoder_bnb4\.onnx/)
})

test('a folder that cannot be served is shown with the reason', async () => {
  const { environment, printed } = environmentOf()
  const target = join(folder, 'half')
  await mkdir(join(target, 'onnx'), { recursive: true })
  await writeFile(join(target, 'config.json'), '{"model_type": "clip"}')
  await writeFile(join(target, 'onnx/vision_encoder_q4f16.onnx'), 'x'.repeat(10))
  await writeFile(join(target, 'onnx/vision_encoder_q4f16.onnx_data'), 'x'.repeat(90))
  await writeFile(join(target, 'onnx/embed_tokens_quantized.onnx'), 'x')
  await expect(runShow(target, { json: true }, environment)).rejects.toMatchObject({ code: 'incomplete' })
  expect(JSON.parse(printed.stdout)).toMatchObject({
    refused: expect.stringContaining('model_type is "clip"'),
    sessions: [
      { name: 'embed_tokens', dtype: 'q8', bytes: 1 },
      { name: 'vision_encoder', dtype: 'q4f16', bytes: 100 },
    ],
  })
  printed.stdout = ''
  await expect(runShow(target, {}, environment)).rejects.toMatchObject({ code: 'incomplete' })
  expect(printed.stdout).toMatch(/note +not batch-invariant/)
})

test('a folder that is not there is wrong usage', async () => {
  await expect(runShow('nowhere', {}, environmentOf().environment)).rejects.toThrow(UsageError)
})
