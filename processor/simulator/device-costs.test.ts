import { describe, expect, test } from 'vitest'
import { deviceCosts } from './device-costs.fixture.ts'
import { capacityOf, parseDeviceCosts, presets, readDeviceCosts, timesFaster } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'

const table = {
  buckets: [1, 4],
  levels: [
    { pruneRatio: 0, ms: [10, 40] },
    { pruneRatio: 0.5, exact: 0.9, ms: [8, 20] },
  ],
}

test('a table is a sample for each of its cells; what a level costs follows from the largest batch', () => {
  const costs = parseDeviceCosts(table, 'it')
  expect(costs.samples).toEqual([
    { bucket: 1, level: 0, ms: 10 },
    { bucket: 4, level: 0, ms: 40 },
    { bucket: 1, level: 1, ms: 8 },
    { bucket: 4, level: 1, ms: 20 },
  ])
  expect(costs.levels).toEqual([
    { pruneRatio: 0, relativeCost: 1, exact: undefined },
    { pruneRatio: 0.5, relativeCost: 0.5, exact: 0.9 },
  ])
  expect(costs).toMatchObject({ ingestMs: 0, decodeMs: 0, decoders: 1, overheadMs: 0 })
})

test.each([
  [{ ...table, buckets: [4, 1] }, /buckets must ascend/],
  [{ ...table, buckets: [1] }, /as many "ms"/],
  [{ ...table, levels: [{ pruneRatio: 0.2, ms: [1, 2] }] }, /the first level/],
  [{ ...table, levels: [table.levels[0], { pruneRatio: 0.5, ms: [8, -1] }] }, /levels\.1\.ms\.1/],
  [{ ...table, decodeMs: 'quick' }, /decodeMs/],
  [[], /the table/],
])('refuses %j and names the field', (wrong, message) => {
  expect(() => parseDeviceCosts(wrong, 'it')).toThrow(SimulationInputError)
  expect(() => parseDeviceCosts(wrong, 'it')).toThrow(message)
})

describe('tables that come with Turbine', () => {
  test.each(Object.keys(presets))(
    '%s is one, and gets faster from its first to its last level',
    async (name) => {
      const { full, pruned } = capacityOf(await readDeviceCosts(name))
      expect(pruned).toBeGreaterThan(full)
    },
  )

  test('an unknown name says which there are', async () => {
    await expect(readDeviceCosts('no-such-device')).rejects.toThrow(/starter-cpu/)
  })
})

test('a faster device runs faster; decoding and the way to it stay', () => {
  const costs = deviceCosts()
  const faster = timesFaster(costs, 4)
  expect(faster.samples.map(({ ms }) => ms)).toEqual(costs.samples.map(({ ms }) => ms / 4))
  expect(faster).toMatchObject({ decodeMs: 2, ingestMs: 3, overheadMs: 4 })
  // 196 images/s of its runs, and 400 unpruned ones of its decoder.
  expect(capacityOf(faster).full).toBeCloseTo(4 * capacityOf(costs).full)
  expect(capacityOf(timesFaster(costs, 100))).toEqual({ full: 500, pruned: 500, decoding: 500 })
})
