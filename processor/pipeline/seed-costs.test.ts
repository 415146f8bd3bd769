import { beforeAll, expect, test } from 'vitest'
import { blankPicture } from '../engine/batch.fixture.ts'
import { type DeviceRun, plainRow, type RunRow } from '../engine/batch.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import type { CostSample } from '../scheduling/cost-model.ts'
import { seedCosts } from './seed-costs.ts'

const buckets = [1, 2, 4]
const levels = [0, 0.5].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio / 2 }))
let model: CaptionModel
let row: RunRow
beforeAll(async () => {
  const opened = await openModel(tinyBlip)
  model = { ...opened, levels: [opened.levels[0]!, opened.levels.at(-1)!] }
  row = await plainRow(model, blankPicture(model.picture))
})

/** A device that takes so long for an image, and counts its runs. */
function deviceOf(msPerImage: number) {
  const runs: DeviceRun[] = []
  return {
    runs,
    async run(run: DeviceRun) {
      runs.push(run)
      return { rows: [], inferenceMs: run.rows.length * msPerImage }
    },
  }
}

function cacheOf(kept?: CostSample[]) {
  const state = { kept }
  return {
    state,
    read: async () => state.kept,
    write: async (samples: CostSample[]) => {
      state.kept = samples
    },
  }
}

const seed = (device: ReturnType<typeof deviceOf>, cache?: ReturnType<typeof cacheOf>) =>
  seedCosts(device, { model, buckets, levels, row, cache })

test('a first start measures, and keeps what it measured', async () => {
  const cache = cacheOf()
  const costs = await seed(deviceOf(10), cache)
  expect(costs.predict(4, 0)).toBeCloseTo(40)
  expect(cache.state.kept).toContainEqual({ bucket: 4, level: 1, ms: 40 })
})

test('a later start uses what is kept', async () => {
  const kept = buckets.flatMap((bucket) => [0, 1].map((level) => ({ bucket, level, ms: 11 * bucket })))
  const cache = cacheOf(kept)
  const costs = await seed(deviceOf(10), cache)
  expect(cache.state.kept).toBe(kept)
  // Corrected towards what was seen now.
  expect(costs.predict(2, 0)).toBeLessThan(22)
  expect(costs.predict(2, 0)).toBeGreaterThan(20)
})

test('what does not hold any more is measured anew', async () => {
  const cache = cacheOf([{ bucket: 1, level: 0, ms: 100 }])
  const costs = await seed(deviceOf(10), cache)
  expect(costs.predict(1, 0)).toBeCloseTo(10)
  expect(cache.state.kept).toContainEqual({ bucket: 1, level: 0, ms: 10 })
})

test('the slow first runs of each shape on a GPU do not hide that large batches cost little more', async () => {
  const seen = new Map<string, number>()
  const gpu = {
    async run({ rows, schedule }: DeviceRun) {
      const count = rows.length
      const shape = `${count} ${schedule.r}`
      const before = seen.get(shape) ?? 0
      seen.set(shape, before + 1)
      return { rows: [], inferenceMs: before < 2 ? 2600 : 45 + count }
    },
  }
  const costs = await seedCosts(gpu, { model, buckets, levels, row, gpu: true })
  expect(costs.predict(4, 0)).toBeCloseTo(49)
  expect(costs.best(0).bucket).toBe(4)
})

test('a cache that cannot be written costs nothing but the next start', async () => {
  const errors: unknown[] = []
  const cache = { read: async () => undefined, write: () => Promise.reject(new Error('disk full')) }
  const onCacheError = (error: unknown) => errors.push(error)
  const costs = await seedCosts(deviceOf(10), {
    model,
    buckets,
    levels,
    row,
    cache,
    onCacheError,
  })
  expect(costs.predict(1, 0)).toBeCloseTo(10)
  expect(errors).toEqual([new Error('disk full')])
})
