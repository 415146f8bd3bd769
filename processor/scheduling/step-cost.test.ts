import { expect, test } from 'vitest'
import { CostModel } from './cost-model.ts'
import { StepCost } from './step-cost.ts'

const levels = [1, 0.5].map((relativeCost, i) => ({ pruneRatio: i * 0.3, relativeCost }))
const buckets = [1, 2, 4, 8]
/** 40 ms for pictures and prompts, 30 steps of 2 ms. */
const sample = { bucket: 1, level: 0, ms: 100, steps: 30, stepsMs: 60 }

test('a level saves only what comes before the steps', () => {
  const costs = new CostModel({ levels, buckets, samples: [sample] })
  expect(costs.predict(1, 0)).toBeCloseTo(100)
  expect(costs.predict(1, 1)).toBeCloseTo(80)
})

test('longer texts are learned as steps, and do not slow pictures down', () => {
  const costs = new CostModel({ levels, buckets, samples: [sample] })
  for (let run = 0; run < 60; run++) costs.observe({ ...sample, ms: 240, steps: 100, stepsMs: 200 })
  expect(costs.predict(1, 0)).toBeCloseTo(240, -1)
  expect(costs.predict(1, 0) - costs.predict(1, 1)).toBeCloseTo(20)
  expect(costs.relativeError).toBeLessThan(0.01)
})

test('a step takes its own time at each batch size, and that of the nearest where none was seen', () => {
  const steps = new StepCost(buckets, [sample])
  steps.observe({ bucket: 8, steps: 30, stepsMs: 300 })
  expect([1, 2, 4, 8].map((bucket) => steps.predict(bucket, 1))).toEqual([2, 2, 10, 10])
})

test('one slow run moves the time of a step by a tenth', () => {
  const steps = new StepCost(buckets, [sample])
  steps.observe({ bucket: 1, steps: 30, stepsMs: 60_000 })
  expect(steps.predict(1, 1)).toBeCloseTo(2.2)
})

test('without steps there is nothing to add', () => {
  const steps = new StepCost(buckets, [{ bucket: 1 }])
  steps.observe({ bucket: 1 })
  expect(steps.predict(1)).toBe(0)
  expect(steps.sampleOf(1)).toEqual({})
})

test('larger rows take longer in proportion, and do not make the device look slower', () => {
  const costs = new CostModel({ levels, buckets, samples: [{ bucket: 1, level: 0, ms: 10 }] })
  expect(costs.predict(1, 0, 4)).toBeCloseTo(40)
  for (let run = 0; run < 5; run++) costs.observe({ bucket: 1, level: 0, ms: 40, size: 4 })
  expect(costs.predict(1, 0, 1)).toBeCloseTo(10)
  expect(costs.relativeError).toBeLessThan(0.01)
  // What waits is taken to be as usual.
  for (let run = 0; run < 100; run++) costs.observe({ bucket: 1, level: 0, ms: 40, size: 4 })
  expect(costs.best(0).msPerImage * costs.best(0).bucket).toBeGreaterThan(35)
})

test('rows of a size class take what they were seen to take, whatever rows of another take', () => {
  const costs = new CostModel({ levels, buckets, samples: [{ bucket: 1, level: 0, ms: 10 }] })
  const usual = { bucket: 1, level: 0, ms: 10 }
  // Four times as large, sixteen times as long.
  for (let run = 0; run < 60; run++) {
    costs.observe({ ...usual, ms: 160, size: 4 })
    costs.observe(usual)
  }
  expect(costs.predict(1, 0, 4) / 160).toBeCloseTo(1, 1)
  expect(costs.predict(1, 0, 1) / 10).toBeCloseTo(1, 1)
  expect(costs.predict(1, 1, 4) / costs.predict(1, 0, 4)).toBeCloseTo(0.5, 1)
})

test('many ids take longer than few where captions are long, and not where all end soon', () => {
  const learned = (ids: number) => {
    const costs = new CostModel({ levels, buckets, samples: [sample] })
    for (let run = 0; run < 100; run++) costs.observeCaption({ ids, ended: true }, true)
    return costs
  }
  const predicted = (costs: CostModel, most: number) =>
    costs.predict(1, 0, undefined, costs.expectedSteps([most]))
  const long = learned(500)
  expect(predicted(long, 1000)).toBeGreaterThan(10 * predicted(long, 20))
  expect(long.weight(1, 20)).toBeLessThan(0.3)
  expect(long.weight(1, 1000)).toBeCloseTo(1, 0)
  const short = learned(10)
  expect(predicted(short, 1000)).toBeLessThan(1.5 * predicted(short, 20))
  // As many as there are: what is cut is no shorter in the mean than what may go on.
  expect(long.usualSteps).toBeCloseTo(499, 0)
})

test('samples seed a model that knows the same', () => {
  const costs = new CostModel({ levels, buckets, samples: [sample] })
  const again = new CostModel({ levels, buckets, samples: costs.samples() })
  for (const bucket of buckets)
    for (const level of [0, 1]) expect(again.predict(bucket, level)).toBeCloseTo(costs.predict(bucket, level))
})
