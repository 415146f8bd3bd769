import { mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { startFakeHub } from '../models/hub.fixture.ts'
import { UsageError } from './errors.ts'
import { runList, runPull } from './models.ts'

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
  await runList(environment)
  const rows = printed.stdout.trimEnd().split('\n')
  expect(rows.map((row) => row.split(/ {2,}/).slice(0, 2))).toEqual([
    ['starter (bundled)', '2.0 kB'],
    ['acme/captioner', '5.0 MB'],
    ['acme/half', 'incomplete'],
  ])
})

test('without pulled models the list has the bundled one', async () => {
  const { environment, printed } = environmentOf()
  await runList(environment)
  expect(printed.stdout.trimEnd().split('\n')).toHaveLength(1)
})
