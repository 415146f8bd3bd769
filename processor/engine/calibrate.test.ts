import { beforeAll, expect, it } from 'vitest'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { blankPicture } from './batch.fixture.ts'
import { type DeviceRun, plainRow, type RunRow } from './batch.ts'
import { calibrate } from './calibrate.ts'

let model: CaptionModel
let row: RunRow
beforeAll(async () => {
  model = await openModel(tinyBlip)
  row = await plainRow(model, blankPicture(model.picture))
})

/** A device that takes no time; the n-th run says that it took n ms. */
function deviceOf(runs: DeviceRun[]) {
  return {
    async run(run: DeviceRun) {
      runs.push(run)
      return { rows: [], inferenceMs: runs.length }
    },
  }
}

it('measures the corners first, then everything between, once each', async () => {
  const runs: DeviceRun[] = []
  const samples = await calibrate(deviceOf(runs), { model, row, buckets: [1, 2, 4], budgetMs: 60_000 })
  const maxLevel = model.levels.length - 1
  // The first run sets up memory and does not count.
  expect(samples.slice(0, 4)).toEqual([
    { bucket: 1, level: 0, ms: 2 },
    { bucket: 1, level: maxLevel, ms: 3 },
    { bucket: 4, level: 0, ms: 4 },
    { bucket: 4, level: maxLevel, ms: 5 },
  ])
  expect(new Set(samples.map(({ bucket, level }) => `${bucket}/${level}`)).size).toBe(3 * model.levels.length)
  expect(samples).toHaveLength(3 * model.levels.length)
})

it('runs each cell as often as asked before the run that counts', async () => {
  const runs: DeviceRun[] = []
  const single = { ...model, levels: model.levels.slice(0, 1) }
  const options = { model: single, row, buckets: [1, 2], budgetMs: 60_000, warmUps: 2 }
  expect(await calibrate(deviceOf(runs), options)).toEqual([
    { bucket: 1, level: 0, ms: 6 },
    { bucket: 2, level: 0, ms: 9 },
  ])
})

it('measures one run however small the budget is', async () => {
  const runs: DeviceRun[] = []
  const samples = await calibrate(deviceOf(runs), { model, row, buckets: [1, 2], budgetMs: -1 })
  expect(samples).toEqual([{ bucket: 1, level: 0, ms: 2 }])
})

it('measures a single batch size and a single level once', async () => {
  const runs: DeviceRun[] = []
  const single = { ...model, levels: model.levels.slice(0, 1) }
  expect(
    await calibrate(deviceOf(runs), { model: single, row, buckets: [1], budgetMs: 60_000 }),
  ).toHaveLength(1)
})
