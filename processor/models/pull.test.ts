import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import type { IncomingMessage, ServerResponse } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { ChecksumError } from './download.ts'
import { answerFile, commit, type FakeHub, type FakeHubOptions, startFakeHub } from './hub.fixture.ts'
import { HubError } from './hub.ts'
import {
  type PullOptions,
  type PullPlan,
  type PullProgress,
  pullModel,
  UnsupportedModelError,
} from './pull.ts'

const id = 'acme/captioner'
const weights = 'w'.repeat(100_000)
const files = {
  'README.md': 'not needed',
  'config.json': '{"model_type": "blip"}',
  'preprocessor_config.json': '{}',
  'tokenizer.json': '{}',
  'vocab.txt': 'a\nb\n',
  'model.safetensors': weights,
  'pytorch_model.bin': 'not needed',
}

let folder: string
let hubs: FakeHub[]

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-pull-'))
  hubs = []
})
afterEach(async () => {
  await Promise.all(hubs.map((hub) => hub.close()))
  await rm(folder, { recursive: true })
})

async function hubWith(options: Partial<FakeHubOptions> = {}): Promise<FakeHub> {
  const hub = await startFakeHub({ id, files, ...options })
  hubs.push(hub)
  return hub
}

interface PullParts extends Pick<PullOptions, 'dtype' | 'device' | 'onPlan'> {
  token?: string
  revision?: string
  progress?: PullProgress[]
  pauses?: number[]
}

const pull = (hub: { endpoint: string }, { token, revision, progress, pauses, ...more }: PullParts = {}) =>
  pullModel({
    ...more,
    hub: { endpoint: hub.endpoint, token },
    id,
    revision,
    folder,
    onProgress: (step) => progress?.push(step),
    sleep: async (ms) => pauses?.push(ms),
  })

const contentOf = (name: string) => readFile(join(folder, name), 'utf8')
const isWeights = (request: IncomingMessage) => request.url?.endsWith('model.safetensors') === true

/** Sends `bytes` of the weights, then cuts the connection. */
function cutAfter(request: IncomingMessage, response: ServerResponse, bytes: number): void {
  const start = Number(request.headers.range?.match(/\d+/)?.[0] ?? 0)
  response.writeHead(start ? 206 : 200, { 'content-length': weights.length - start })
  response.write(weights.slice(start, start + bytes), () => setTimeout(() => response.destroy(), 20))
}

test('the files that are needed are there, whole, and nothing else', async () => {
  const hub = await hubWith()
  const progress: PullProgress[] = []
  const model = await pull(hub, { progress })
  expect(model.commit).toBe(commit)
  expect((await readdir(folder)).sort()).toEqual([
    'config.json',
    'model.safetensors',
    'preprocessor_config.json',
    'tokenizer.json',
    'vocab.txt',
  ])
  expect(await contentOf('model.safetensors')).toBe(weights)
  const total = progress[0]!.totalBytes
  expect(progress.at(-1)).toEqual({ file: 'model.safetensors', bytes: total, totalBytes: total })
})

test('pulled again, only what is missing or wrong is fetched', async () => {
  const hub = await hubWith()
  await pull(hub)
  await writeFile(join(folder, 'vocab.txt'), 'x\ny\n')
  await rm(join(folder, 'tokenizer.json'))
  hub.requests.length = 0
  await pull(hub)
  expect(hub.requests.map(({ path }) => path.split('/').at(-1))).toEqual([
    'main?blobs=true',
    'tokenizer.json',
    'vocab.txt',
  ])
  expect(await contentOf('vocab.txt')).toBe('a\nb\n')
})

test('a connection that breaks again and again goes on at the byte where it broke', async () => {
  let cuts = 9
  const hub = await hubWith({
    intercept: (request, response) => {
      if (!isWeights(request) || cuts-- <= 0) return false
      cutAfter(request, response, 10_000)
      return true
    },
  })
  await pull(hub)
  expect(await contentOf('model.safetensors')).toBe(weights)
  const ranges = hub.requests
    .filter(({ path }) => path.endsWith('model.safetensors'))
    .map(({ range }) => range)
  expect(ranges).toEqual([undefined, ...[1, 2, 3, 4, 5, 6, 7, 8, 9].map((n) => `bytes=${n}0000-`)])
})

test('a pull that was given up is taken up by the next one', async () => {
  let dead = true
  const hub = await hubWith({
    intercept: (request, response, number) => {
      if (!isWeights(request) || !dead) return false
      if (number > 6) response.destroy()
      else cutAfter(request, response, 30_000)
      return true
    },
  })
  const pauses: number[] = []
  await expect(pull(hub, { pauses })).rejects.toMatchObject({ code: 'hub_unreachable', retriable: true })
  expect(pauses.slice(-3)).toEqual([2000, 4000, 8000])
  expect((await contentOf('model.safetensors.part')).length).toBe(30_000)
  await expect(contentOf('model.safetensors')).rejects.toThrow('ENOENT')
  dead = false
  hub.requests.length = 0
  await pull(hub)
  expect(hub.requests.at(-1)!.range).toBe('bytes=30000-')
  expect(await contentOf('model.safetensors')).toBe(weights)
})

test('a hub that knows no ranges sends the file from the start', async () => {
  await writeFile(join(folder, 'model.safetensors.part'), 'www')
  const hub = await hubWith({
    intercept: (request, response) => {
      if (!isWeights(request)) return false
      answerFile(response, weights, undefined)
      return true
    },
  })
  await pull(hub)
  expect(await contentOf('model.safetensors')).toBe(weights)
})

test('a part of another version is thrown away and fetched anew', async () => {
  await writeFile(join(folder, 'model.safetensors.part'), 'x'.repeat(50_000))
  await pull(await hubWith())
  expect(await contentOf('model.safetensors')).toBe(weights)
})

test.each([
  ['model.safetensors', weights.replace('w', 'x')],
  ['tokenizer.json', '[]'],
])('%s with a wrong checksum never gets its name', async (name, content) => {
  const hub = await hubWith({
    intercept: (request, response) => {
      if (!request.url?.endsWith(`/${name}`)) return false
      answerFile(response, content, request.headers.range)
      return true
    },
  })
  await expect(pull(hub)).rejects.toThrow(ChecksumError)
  expect((await readdir(folder)).filter((file) => file.startsWith(name))).toEqual([])
})

test('a file that is longer than listed is refused, not fetched for ever', async () => {
  const hub = await hubWith({
    intercept: (request, response) => {
      if (!isWeights(request)) return false
      response.end(`${weights}and more`)
      return true
    },
  })
  await expect(pull(hub)).rejects.toThrow('larger than the hub says')
})

test('a busy hub is asked again after the time it names', async () => {
  const hub = await hubWith({
    intercept: (_request, response, number) => {
      if (number > 1) return false
      response.writeHead(429, { 'retry-after': '3' }).end()
      return true
    },
  })
  const pauses: number[] = []
  await pull(hub, { pauses })
  expect(pauses).toEqual([3000])
})

test.each([
  [404, {}, 'model_not_found', /has no acme\/captioner at main.*set HF_TOKEN/],
  [401, {}, 'model_not_found', /has no acme\/captioner at main.*set HF_TOKEN/],
  [401, { token: 'secret' }, 'model_not_found', /HF_TOKEN can read/],
  [403, {}, 'hub_refused', /accept its terms/],
  [418, {}, 'hub_invalid', /responded 418/],
])('status %i is one line with a remedy', async (status, parts, code, message) => {
  const hub = await hubWith({
    intercept: (_request, response) => {
      response.writeHead(status).end()
      return true
    },
  })
  const error: unknown = await pull(hub, parts).catch((thrown) => thrown)
  expect(error).toBeInstanceOf(HubError)
  expect(error).toMatchObject({ code, message: expect.stringMatching(message), retriable: false })
  expect(String(error)).not.toContain('secret')
  expect(hub.requests).toHaveLength(1)
})

test('no network is told after three tries', async () => {
  const hub = await startFakeHub({ id, files })
  await hub.close()
  const pauses: number[] = []
  await expect(pull(hub, { pauses })).rejects.toMatchObject({
    code: 'hub_unreachable',
    message: expect.stringMatching(/127\.0\.0\.1.*ECONNREFUSED.*HF_ENDPOINT/),
  })
  expect(pauses).toEqual([1000, 2000])
})

test('an address that is no hub is told as such', async () => {
  const hub = await hubWith({
    intercept: (_request, response) => {
      response.end('<html>')
      return true
    },
  })
  await expect(pull(hub)).rejects.toMatchObject({ code: 'hub_invalid' })
})

test('the token goes to the hub and not to the storage that it redirects to', async () => {
  const storage = await hubWith()
  const hub = await hubWith({
    intercept: (request, response) => {
      if (!isWeights(request)) return false
      response.writeHead(302, { location: `${storage.endpoint}${request.url}` }).end()
      return true
    },
  })
  await pull(hub, { token: 'secret' })
  expect(hub.requests.every(({ authorization }) => authorization === 'Bearer secret')).toBe(true)
  expect(storage.requests).toMatchObject([{ authorization: undefined }])
  expect(await contentOf('model.safetensors')).toBe(weights)
})

test.each([
  [{ 'config.json': '{}', 'pytorch_model.bin': 'x' }, /pytorch_model\.bin only.*--revision/],
  [{ 'config.json': '{}' }, /has no model\.safetensors/],
  [{ ...files, 'preprocessor_config.json': undefined }, /has no preprocessor_config\.json/],
  [{ ...files, 'tokenizer.json': undefined, 'vocab.txt': undefined }, /no tokenizer\.json and no vocab\.txt/],
])('a model that cannot be served is refused before anything is fetched', async (listed, message) => {
  const present = Object.entries(listed).filter((entry): entry is [string, string] => entry[1] !== undefined)
  const hub = await hubWith({ files: Object.fromEntries(present) })
  const error: unknown = await pull(hub).catch((thrown) => thrown)
  expect(error).toBeInstanceOf(UnsupportedModelError)
  expect(String(error)).toMatch(message)
  expect(hub.requests).toHaveLength(1)
})

test('another kind of model is noticed before its weights are fetched', async () => {
  const hub = await hubWith({ files: { ...files, 'config.json': '{"model_type": "clip"}' } })
  await expect(pull(hub)).rejects.toThrow(/type "clip"/)
  expect(hub.requests.some(({ path }) => path.endsWith('model.safetensors'))).toBe(false)
})

const smolvlm = {
  'README.md': 'not needed',
  'config.json': '{"model_type": "idefics3", "auto_map": {"AutoModel": "modeling.Evil"}}',
  'modeling.py': 'import os',
  'preprocessor_config.json': '{}',
  'tokenizer.json': '{}',
  'onnx/vision_encoder.onnx': 'v'.repeat(500),
  'onnx/embed_tokens.onnx': 'e'.repeat(300),
  'onnx/decoder_model_merged.onnx': 'd',
  'onnx/decoder_model_merged.onnx_data': 'D'.repeat(900),
  'onnx/vision_encoder_q4.onnx': 'v4',
  'onnx/embed_tokens_q4.onnx': 'e4',
  'onnx/decoder_model_merged_q4.onnx': 'd4',
}

test('of an exported model the sessions that will run are loaded, and it is said before what they take', async () => {
  const hub = await hubWith({ files: smolvlm })
  const plans: [PullPlan, string[]][] = []
  const fetched = () =>
    hub.requests.map(({ path }) => path.split(/resolve\/[^/]*\//)[1] ?? '').filter((path) => path !== '')
  const { plan } = await pull(hub, { onPlan: (each) => plans.push([each, fetched()]) })
  expect(plans).toEqual([[plan, ['config.json']]])
  expect(plan).toMatchObject({
    family: 'idefics3',
    sessions: { vision_encoder: 'fp32', decoder_model_merged: 'fp32' },
  })
  expect(plan.totalBytes).toBe(500 + 300 + 1 + 900 + smolvlm['config.json'].length + 4)
  expect((await readdir(folder, { recursive: true })).sort()).toEqual([
    ...['config.json', 'onnx', 'onnx/decoder_model_merged.onnx', 'onnx/decoder_model_merged.onnx_data'],
    ...['onnx/embed_tokens.onnx', 'onnx/vision_encoder.onnx', 'preprocessor_config.json', 'tokenizer.json'],
  ])
  expect(await contentOf('onnx/decoder_model_merged.onnx_data')).toBe('D'.repeat(900))
})

test('a type that is asked for is the one that is loaded', async () => {
  const hub = await hubWith({ files: smolvlm })
  await pull(hub, { dtype: 'q4' })
  expect((await readdir(join(folder, 'onnx'))).sort()).toEqual([
    'decoder_model_merged_q4.onnx',
    'embed_tokens_q4.onnx',
    'vision_encoder_q4.onnx',
  ])
})

test('a tagger is loaded without a configuration', async () => {
  const hub = await hubWith({
    files: { 'model.onnx': 'm', 'selected_tags.csv': 'tag_id,name', 'a.safetensors': 'x' },
  })
  expect((await pull(hub)).plan.family).toBe('tagger')
  expect((await readdir(folder)).sort()).toEqual(['model.onnx', 'selected_tags.csv'])
})

test('no name that a hub gives leads out of the folder, or to code', async () => {
  const evil = Object.fromEntries(
    [
      ...[
        '../evil',
        '../../evil.onnx',
        '/tmp/evil',
        'onnx/../../evil.onnx',
        'onnx\\..\\..\\evil.onnx',
        'C:\\evil',
      ],
      ...[
        'onnx/decoder_model_merged.onnx_data/../../../evil',
        'onnx/decoder_model_merged.onnx_data\u0000',
        '..',
      ],
    ].map((name) => [name, 'evil']),
  )
  const hub = await hubWith({ files: { ...smolvlm, ...evil } })
  await pull(hub)
  const asked = hub.requests.map(({ path }) => decodeURIComponent(path))
  expect(asked.filter((path) => /evil|\.py|_data./.test(path))).toEqual([])
  expect(await readdir(join(folder, '..'))).not.toContain('evil')
})

test.each([
  ['is no JSON', '<html>', /config\.json that cannot be read/],
  ['is a list', '[]', /config\.json that cannot be read/],
  ['is nested without end', '['.repeat(100_000), /config\.json that cannot be read/],
  ['is of another kind', '{"model_type": "clip"}', /type "clip"/],
  ['says nothing', '{}', /type null/],
])(
  'a configuration that %s is refused in one line before anything else is fetched',
  async (_name, config, message) => {
    const hub = await hubWith({ files: { ...smolvlm, 'config.json': config } })
    const error: unknown = await pull(hub).catch((thrown) => thrown)
    expect(error).toBeInstanceOf(UnsupportedModelError)
    expect(String(error)).toMatch(message)
    expect(String(error)).not.toContain('\n')
    expect(hub.requests).toHaveLength(2)
  },
)
