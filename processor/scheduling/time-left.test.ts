import { expect, test } from 'vitest'
import { CostModel } from './cost-model.ts'
import { type RowOnItsWay, timeLeft } from './time-left.ts'

const levels = [{ pruneRatio: 0, relativeCost: 1 }]
/** 40 ms for pictures and prompts, 20 steps of 5 ms. */
const costs = new CostModel({
  levels,
  buckets: [1, 2, 4],
  samples: [{ bucket: 1, level: 0, ms: 140, steps: 20, stepsMs: 100 }],
})
const batch = { bucket: 1, level: 0, images: [] }
const row = (mostIds: number, ids: number): RowOnItsWay => ({ batch, mostIds, ids })
const left = (...rows: RowOnItsWay[]) => timeLeft(rows, { costs, places: 2 })

test('nothing runs', () => {
  expect(left()).toEqual({ placeMs: 0, endMs: 0 })
})

test('one more joins behind the steps in hand, however long the other caption is', () => {
  const { placeMs, endMs } = left(row(10_000, 1))
  expect(placeMs).toBeLessThanOrEqual(20 * 5)
  expect(endMs).toBeGreaterThan(placeMs)
})

test('where no place is free it waits for one', () => {
  const full = left(row(10_000, 1), row(10_000, 1))
  expect(full.placeMs).toBeGreaterThan(left(row(10_000, 1)).placeMs)
  expect(left(row(10_000, 1), row(3, 1)).placeMs).toBeLessThan(full.placeMs)
})

test('pictures and prompts of rows that begin count once for all of them', () => {
  const [alone, both] = [left(row(5, 0)), left(row(5, 0), row(5, 0))]
  expect(alone.endMs).toBeGreaterThan(40)
  expect(both.endMs).toBeCloseTo(alone.endMs, 0)
})
