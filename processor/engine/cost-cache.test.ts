import { mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { type CostCacheOptions, openCostCache } from './cost-cache.ts'

const samples = [{ bucket: 1, level: 0, ms: 12.5 }]
let folder: string
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-costs-'))
})
afterEach(() => rm(folder, { recursive: true }))

const open = async (change: Partial<CostCacheOptions> = {}) =>
  openCostCache({
    folder: join(folder, 'costs'),
    model: await openModel(tinyBlip),
    device: 'cpu',
    buckets: [1, 2],
    settings: { float16: false },
    ...change,
  })

test('what was measured is there at the next start', async () => {
  expect(await (await open()).read()).toBeUndefined()
  await (await open()).write(samples)
  expect(await (await open()).read()).toEqual(samples)
})

test.skipIf(process.platform === 'win32')('other users of the machine cannot read it', async () => {
  await (await open()).write(samples)
  const names = ['costs', ...(await readdir(join(folder, 'costs'))).map((name) => join('costs', name))]
  const modes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).mode & 0o777))
  expect(modes).toEqual([0o700, 0o600])
})

test('another device, other batch sizes, levels or settings are measured anew', async () => {
  await (await open()).write(samples)
  const model = await openModel(tinyBlip)
  const changes: Partial<CostCacheOptions>[] = [
    { device: 'cuda:0' },
    { buckets: [1, 2, 4] },
    { settings: { float16: true } },
    { model: { ...model, levels: model.levels.slice(0, 2) } },
  ]
  for (const change of changes) expect(await (await open(change)).read()).toBeUndefined()
})

test.each(['', '{', '[]', '[{"bucket":1,"level":0,"ms":-1}]'])(
  'a file that holds %j counts as none',
  async (text) => {
    const cache = await open()
    await cache.write(samples)
    const [name] = await readdir(join(folder, 'costs'))
    await writeFile(join(folder, 'costs', name!), text)
    expect(await cache.read()).toBeUndefined()
  },
)
