import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import { bundledModel, bundledPictures } from '../../infra/starter-model/bundled.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import { plainRow, type RunRow } from './batch.ts'
import { DevicePool } from './device-pool.ts'
import { graphOf, type Precision } from './precision.ts'
import { readPicture } from './read-picture.ts'

const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const

let cache: string
beforeAll(async () => {
  cache = await mkdtemp(join(tmpdir(), 'turbine-int8-cache-'))
  vi.stubEnv('XDG_CACHE_HOME', cache)
})
afterAll(async () => {
  vi.unstubAllEnvs()
  await rm(cache, { recursive: true })
})

async function rowsOf(model: CaptionModel, count = bundledPictures.length): Promise<RunRow[]> {
  const pictures = bundledPictures.slice(0, count)
  return Promise.all(
    pictures.map(async (file) => plainRow(model, await readPicture(await readFile(file), model.picture))),
  )
}

/** Runs on a device: of each batch at each level what came out. */
async function run(model: CaptionModel, precision: Precision, batches: RunRow[][], levels = model.levels) {
  const graph = graphOf(precision)
  const pool = await DevicePool.start({ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4], graph })
  try {
    const results: unknown[] = []
    for (const schedule of levels)
      for (const rows of batches) {
        const result = await pool.devices[0]!.run({ rows, schedule })
        results.push(...result.rows.map(({ ids, scores }) => scores ?? ids))
      }
    return results
  } finally {
    await pool.close()
  }
}

// At harder ones a caption of a hundred hangs on less than int8 rounds to.
it('captions as float32 does, at levels that cost no captions', async () => {
  const model = await openModel(bundledModel)
  const rows = await rowsOf(model)
  const levels = [model.levels[0]!, model.levels[3]!]
  expect(await run(model, 'int8', [rows], levels)).toEqual(await run(model, 'float32', [rows], levels))
})

it('keeps its weights in the cache of the user', async () => {
  const model = await openModel(bundledModel)
  const before = await readdir(bundledModel)
  await run(model, 'int8', [await rowsOf(model, 1)], model.levels.slice(0, 1))
  const [file] = await readdir(join(cache, 'turbine', 'int8'))
  expect(await readdir(join(cache, 'turbine', 'int8', file!))).toEqual(['weights.bin'])
  expect(await readdir(bundledModel)).toEqual(before)
})

describe.each(['blip', 'smolvlm', 'llava', 'qwen2-vl', 'florence2', 'vit-gpt2', 'wd-tagger'])(
  '%s',
  (name) => {
    it('gives a picture in a batch what it gives the picture alone', async () => {
      const model = await openModel(name === 'blip' ? bundledModel : referenceOf(name).folder)
      const rows = await rowsOf(model, 3)
      const levels = [model.levels[0]!, ...model.levels.slice(-1)]
      const together = await run(model, 'int8', [rows], levels)
      const alone = await run(
        model,
        'int8',
        rows.map((row) => [row]),
        levels,
      )
      expect(together).toEqual(alone)
      expect(together).toHaveLength(3 * levels.length)
    })
  },
)
