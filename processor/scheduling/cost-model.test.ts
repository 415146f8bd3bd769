import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CostModel, DecodingCost } from './cost-model.ts'

const levels = [1, 0.8, 0.5].map((relativeCost, i) => ({ pruneRatio: i * 0.3, relativeCost }))
const buckets = [1, 2, 4, 8]

test('a measured cell is the median of its runs', () => {
  const samples = [90, 10, 12].map((ms) => ({ bucket: 1, level: 0, ms }))
  expect(new CostModel({ levels, buckets, samples }).predict(1, 0)).toBe(12)
})

test('unseen sizes are linear through the measured ones', () => {
  const samples = [
    { bucket: 2, level: 0, ms: 30 },
    { bucket: 4, level: 0, ms: 50 },
  ]
  const costs = new CostModel({ levels, buckets, samples })
  expect(buckets.map((bucket) => costs.predict(bucket, 0))).toEqual([20, 30, 50, 90])
})

test('one measured cell is enough: proportional in size and relative cost', () => {
  const costs = new CostModel({ levels, buckets, samples: [{ bucket: 4, level: 0, ms: 100 }] })
  expect(costs.predict(8, 0)).toBe(200)
  expect(costs.predict(4, 1)).toBeCloseTo(80)
  expect(costs.predict(1, 2)).toBeCloseTo(12.5)
})

test('a level between measured ones is linear in relative cost: what pruning does not save stays', () => {
  const samples = [
    { bucket: 1, level: 0, ms: 100 },
    { bucket: 1, level: 2, ms: 75 },
  ]
  expect(new CostModel({ levels, buckets, samples }).predict(1, 1)).toBeCloseTo(90)
})

test('never predicts zero or less, however odd the calibration', () => {
  const ms = fc.double({ min: 0.1, max: 1000, noNaN: true })
  const sample = fc.record({ bucket: fc.constantFrom(...buckets), level: fc.nat(2), ms })
  fc.assert(
    fc.property(fc.array(sample, { minLength: 1, maxLength: 12 }), (samples) => {
      const costs = new CostModel({ levels, buckets, samples })
      for (const bucket of buckets)
        for (const level of levels.keys()) expect(costs.predict(bucket, level)).toBeGreaterThan(0)
    }),
    { seed: 1, numRuns: 100 },
  )
})

test('rejects a model without samples, and unknown cells', () => {
  expect(() => new CostModel({ levels, samples: [] })).toThrow(RangeError)
  const costs = new CostModel({ levels, buckets, samples: [{ bucket: 1, level: 0, ms: 10 }] })
  expect(() => costs.predict(3, 0)).toThrow(RangeError)
  expect(() => costs.observe({ bucket: 1, level: 3, ms: 10 })).toThrow(RangeError)
})

const seeded = () => new CostModel({ levels, buckets, samples: [{ bucket: 1, level: 0, ms: 10 }] })

test('one outlier moves the prediction by less than a quarter and is soon forgotten', () => {
  const costs = seeded()
  costs.observe({ bucket: 1, level: 0, ms: 10_000 })
  expect(costs.predict(1, 0)).toBeLessThan(12.5)
  for (let i = 0; i < 10; i++) costs.observe({ bucket: 1, level: 0, ms: 10 })
  expect(costs.predict(1, 0)).toBeCloseTo(10, 0)
})

test('follows a lasting change, from any start, and says how far off it was', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.05, max: 20, noNaN: true }), (factor) => {
      const costs = seeded()
      for (let i = 0; i < 40; i++) costs.observe({ bucket: 4, level: 1, ms: 32 * factor })
      expect(costs.predict(4, 1) / (32 * factor)).toBeCloseTo(1, 1)
    }),
    { seed: 1, numRuns: 100 },
  )
})

test('a slower device slows every prediction', () => {
  const costs = seeded()
  for (let i = 0; i < 30; i++)
    for (const bucket of buckets) costs.observe({ bucket, level: 0, ms: bucket * 20 })
  expect(costs.predict(8, 0)).toBeCloseTo(160, 0)
  expect(costs.predict(8, 2)).toBeGreaterThan(50)
})

test('a slow first run and an outlier of ten times are forgotten in a few runs', () => {
  const costs = seeded()
  costs.observe({ bucket: 1, level: 0, ms: 100 })
  expect(costs.predict(1, 0)).toBeLessThan(12.5)
  for (let i = 0; i < 5; i++) costs.observe({ bucket: 1, level: 0, ms: 10 })
  expect(costs.predict(1, 0)).toBeLessThan(10.5)
})

test('a device that has become three times slower is believed after ten runs', () => {
  const costs = seeded()
  for (let i = 0; i < 10; i++) costs.observe({ bucket: 1, level: 0, ms: 30 })
  expect(costs.predict(1, 0) / 30).toBeCloseTo(1, 1)
})

test.each([0, -1, Number.NaN, Number.POSITIVE_INFINITY])('rejects %d ms and keeps what it knows', (ms) => {
  const costs = seeded()
  expect(() => costs.observe({ bucket: 1, level: 0, ms })).toThrow(RangeError)
  expect(() => costs.observeDecoding(ms)).toThrow(RangeError)
  expect(() => new CostModel({ levels, samples: [{ bucket: 1, level: 0, ms }] })).toThrow(RangeError)
  expect([costs.predict(1, 0), costs.relativeError, costs.decodingMs]).toEqual([10, 0, 0])
})

test('its samples seed a model that predicts the same', () => {
  const costs = seeded()
  for (const ms of [12, 31, 8]) costs.observe({ bucket: 2, level: 1, ms })
  const samples = costs.samples()
  const again = new CostModel({ levels, buckets, samples })
  expect(samples).toHaveLength(levels.length * buckets.length)
  for (const { bucket, level, ms } of samples) {
    expect(costs.predict(bucket, level)).toBe(ms)
    expect(again.predict(bucket, level)).toBe(ms)
  }
})

test('serves no faster than images are decoded', () => {
  const costs = new CostModel({
    levels,
    buckets: [1],
    samples: [{ bucket: 1, level: 0, ms: 10 }],
    decodersAtOnce: 2,
  })
  expect(costs.throughput(0)).toBe(100)
  for (let i = 0; i < 5; i++) costs.observeDecoding(25)
  expect(costs.decodingRate).toBeCloseTo(80)
  expect(costs.throughput(0)).toBeCloseTo(80)
  expect(costs.throughput(2)).toBeCloseTo(80)
})

test('what follows from the cells follows each run', () => {
  const costs = seeded()
  const [before] = costs.fastestUpTo()
  for (let i = 0; i < 40; i++)
    for (const bucket of buckets) costs.observe({ bucket, level: 0, ms: 20 * bucket })
  expect(costs.fastestUpTo()[0]! / before!).toBeCloseTo(2, 1)
  expect(costs.runTimes(0)[3]).toBe(costs.predict(4, 0))
})

test('its relative error falls while the runs are as predicted and rises when they are not', () => {
  const costs = seeded()
  expect(costs.relativeError).toBe(0)
  for (let i = 0; i < 100; i++) costs.observe({ bucket: 1, level: 0, ms: i % 2 === 0 ? 12 : 8 })
  expect(costs.relativeError).toBeGreaterThan(0.1)
  for (let i = 0; i < 100; i++) costs.observe({ bucket: 1, level: 0, ms: 10 })
  expect(costs.relativeError).toBeLessThan(0.02)
})

test('the best size has the highest rate, and is small where size gains next to nothing', () => {
  const measured = (ms: (bucket: number) => number) =>
    new CostModel({
      levels,
      buckets,
      samples: buckets.map((bucket) => ({ bucket, level: 0, ms: ms(bucket) })),
    })
  expect(measured((bucket) => 20 + bucket).best(0)).toEqual({ bucket: 8, msPerImage: 3.5 })
  expect(measured((bucket) => 0.2 + 10 * bucket).best(0).bucket).toBe(1)
  expect(measured((bucket) => 10 * bucket).throughput(0)).toBe(100)
})

test('serves a number between two sizes in one padded run or in several, whichever is faster', () => {
  const samples = buckets.map((bucket) => ({ bucket, level: 0, ms: 10 * bucket }))
  const linear = new CostModel({ levels, buckets, samples })
  expect(linear.servingTimes(0)).toEqual([0, 10, 20, 30, 40, 50, 60, 70, 80])
  const flat = new CostModel({ levels, buckets, samples: samples.map((sample) => ({ ...sample, ms: 40 })) })
  expect(flat.servingTimes(0)).toEqual([0, ...buckets.flatMap((_) => [40, 40])])
})

test('a level that measures slower than one below it counts as no faster', () => {
  const samples = [10, 12, 5].map((ms, level) => ({ bucket: 1, level, ms }))
  expect(new CostModel({ levels, buckets: [1], samples }).fastestUpTo()).toEqual([10, 10, 5])
})

const after = (...ms: number[]) => {
  const cost = new DecodingCost()
  for (const each of ms) cost.observe(each)
  return cost.ms
}
const steady = (count: number, ms = 10) => new Array<number>(count).fill(ms)

test('knows nothing at first, then the mean', () => {
  expect(after()).toBe(0)
  expect(after(10)).toBe(10)
  expect(after(5, 10, 15)).toBeCloseTo(10)
})

test('a slow first image is soon made up for', () => {
  expect(after(100, ...steady(19))).toBeLessThan(15)
})

test('an outlier counts as four times the mean, once', () => {
  expect(after(...steady(100), 100_000)).toBeCloseTo(11.5)
  expect(after(...steady(100), 100_000, ...steady(40))).toBeCloseTo(10, 0)
})

test('follows a lasting change', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.1, max: 10, noNaN: true }), (factor) => {
      const slower = after(...steady(50), ...steady(150, 10 * factor))
      expect(slower / (10 * factor)).toBeCloseTo(1, 1)
    }),
    { seed: 1, numRuns: 50 },
  )
})

test('images of different sizes count with what they cost', () => {
  const mixed = Array.from({ length: 400 }, (_, i) => (i % 2 === 0 ? 5 : 15))
  expect(after(...mixed)).toBeCloseTo(10, 0)
})
