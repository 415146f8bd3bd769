import { expect, test } from 'vitest'
import { latestStart, timeForRun } from './line-head.ts'
import { device, levels } from './scenario.fixture.ts'
import { servingPlan } from './serving-plan.ts'

const hardest = levels.length - 1
const costs = device({ fixedMs: 60, rowMs: 10, buckets: [1, 2, 4] })
const options = (devices = 1) => ({ costs, plan: servingPlan({ costs, devices }), now: 1000, slowdown: 1 })
const due = (...inMs: number[]) => inMs.map((ms) => ({ deadline: 1000 + ms, hardest }))

test('a head in a hurry is served in small runs, which the images behind it pay for', () => {
  expect(latestStart(due(200, 200, 200, 200), 0, options())).toBe(100)
  // 70 ms alone and 90 ms for three, padded to four.
  expect(latestStart(due(75, 200, 200, 200), 0, options())).toBe(5)
  expect(latestStart(due(75, 160, 160, 160), 0, options())).toBe(-5)
})

test('each of several devices has every so manieth image', () => {
  const crowd = due(170, 170, 170, 170, 170, 170, 170, 170)
  expect(latestStart(crowd, 0, options(1))).toBeLessThan(0)
  expect(latestStart(crowd, 0, options(2))).toBe(70)
})

test('milder images take their time before the run, and late ones do not count', () => {
  const milder = { deadline: 5000, hardest: 0 }
  const alone = latestStart(due(300), hardest, options())
  expect(latestStart([milder, ...due(300)], hardest, options())).toBeCloseTo(alone - costs.fastestUpTo()[0]!)
  expect(latestStart(due(20), 0, options())).toBe(Infinity)
})

test('a run may take as long as its own images and those behind it have time', () => {
  const timeFor = (...inMs: number[]) => timeForRun(due(...inMs), 0, { ...options(), devices: 1 })
  expect(timeFor(300, 300)(2)).toBe(300)
  // The second one runs alone for 70 ms if it is not taken along.
  expect(timeFor(300, 300)(1)).toBe(230)
  expect(timeFor(300, 300)(4)).toBe(300)
})

test('where not all can be in time the run is for those in it', () => {
  const timeFor = timeForRun(due(75, 80, 85), 0, { ...options(), devices: 1 })
  expect(timeFor(1)).toBe(75)
  expect(timeForRun(due(10, 90), 0, { ...options(), devices: 1 })(2)).toBe(90)
})
