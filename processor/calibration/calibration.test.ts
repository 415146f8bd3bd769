import { expect, it } from 'vitest'
import { flopShare } from '../turbo/flops.ts'
import { type Schedule, tokenCounts } from '../turbo/schedule.ts'
import { type CalibrationOptions, calibrateLevels } from './calibration.ts'
import { comparison } from './comparison.ts'
import { fakeCaption, fakeEncoder } from './fake-captions.fixture.ts'

/** Pictures from a number on, ten a batch. */
const compareFrom = (first: number, change: (schedule: Schedule) => Schedule = (schedule) => schedule) =>
  comparison({
    batches: Array.from({ length: 12 }, (_, i) => ({ count: 10, from: first + 10 * i })),
    layers: fakeEncoder.layers,
    caption: async ({ from, count }, schedule) =>
      Array.from({ length: count }, (_, i) => fakeCaption(from + i, change(schedule))),
  })

const speedOf = (speed: number) => ({ usual: speed, best: speed })

const calibrate = (parts: Partial<CalibrationOptions> = {}) =>
  calibrateLevels({
    encoder: fakeEncoder,
    pictures: { search: 120, heldOut: 120 },
    compare: { search: compareFrom(0), heldOut: compareFrom(1000) },
    levels: 6,
    minExact: 0.6,
    measureSpeeds: async (schedules) => schedules.map(({ r }) => speedOf(100 / flopShare(fakeEncoder, r))),
    ...parts,
  })

it('gives levels that ascend in merging and speed and descend in agreement, the unpruned one first', async () => {
  const { levels } = await calibrate()
  expect(levels.length).toBeGreaterThanOrEqual(4)
  expect(levels.length).toBeLessThanOrEqual(6)
  expect(levels[0]).toMatchObject({ quality: { exact: 1, cider: 1 }, speed: { usual: 100 } })
  expect(levels[0]!.schedule.r.every((value) => value === 0)).toBe(true)
  const tokens = levels.map(({ schedule }) => tokenCounts(fakeEncoder.tokens, schedule.r).at(-1)!)
  for (let i = 1; i < levels.length; i++) {
    expect(tokens[i]).toBeLessThan(tokens[i - 1]!)
    expect(levels[i]!.speed.best).toBeGreaterThan(levels[i - 1]!.speed.best)
    expect(levels[i]!.quality.exact).toBeLessThanOrEqual(levels[i - 1]!.quality.exact)
  }
  expect(levels.at(-1)!.quality.exact).toBeGreaterThanOrEqual(0.6)
  expect(levels.at(-1)!.quality.exact).toBeLessThan(0.9)
})

it('takes the quality from held-out pictures, and drops what they do not confirm', async () => {
  // A model that cannot bear late merging on the pictures that were kept from the search.
  const heldOut = compareFrom(1000, (schedule) => ({
    ...schedule,
    r: schedule.r.map((value, layer) => (layer > 2 ? 4 * value : value)),
  }))
  const usual = await calibrate()
  const { levels, dropped } = await calibrate({ compare: { search: compareFrom(0), heldOut } })
  expect(levels.length).toBeLessThan(usual.levels.length)
  expect(dropped.length).toBeGreaterThan(0)
  for (const { schedule, quality } of levels.slice(1)) expect(quality).toEqual(await heldOut(schedule, 120))
})

it('drops levels that are no faster', async () => {
  const { levels, dropped } = await calibrate({
    measureSpeeds: async (schedules) => schedules.map(() => speedOf(100)),
  })
  expect(levels).toHaveLength(1)
  expect(dropped.at(-1)).toMatchObject({ reason: 'is no faster than the level before' })
})

it('gives only the unpruned level when nothing is bearable', async () => {
  const fragile = compareFrom(0, ({ r, weight }) => ({ r: r.map((value) => 1000 * value), weight }))
  const { levels } = await calibrate({ compare: { search: fragile, heldOut: fragile } })
  expect(levels).toHaveLength(1)
})
