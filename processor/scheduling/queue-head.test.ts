import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import {
  type InteractiveRoomOptions,
  latestStart,
  latestStarts,
  leavesRoom,
  timeForRun,
} from './queue-head.ts'
import { device, levels } from './scenario.fixture.ts'
import { servingPlan } from './service-order.ts'

const maxLevel = levels.length - 1
const costs = device({ fixedMs: 60, rowMs: 10, buckets: [1, 2, 4] })
const options = (devices = 1) => ({ costs, plan: servingPlan({ costs, devices }), now: 1000, slowdown: 1 })
const dueIn = (...inMs: number[]) => inMs.map((ms) => ({ deadline: 1000 + ms, maxLevel }))

test('a head in a hurry is served in small runs, which the images behind it pay for', () => {
  expect(latestStart(dueIn(200, 200, 200, 200), 0, options())).toBe(100)
  // 70 ms alone and 90 ms for three, padded to four.
  expect(latestStart(dueIn(75, 200, 200, 200), 0, options())).toBe(5)
  expect(latestStart(dueIn(75, 160, 160, 160), 0, options())).toBe(-5)
})

test('each of several devices has every so manieth image', () => {
  const crowd = dueIn(170, 170, 170, 170, 170, 170, 170, 170)
  expect(latestStart(crowd, 0, options(1))).toBeLessThan(0)
  expect(latestStart(crowd, 0, options(2))).toBe(70)
})

test('milder images take their time before the run, and late ones do not count', () => {
  const milder = { deadline: 5000, maxLevel: 0 }
  const alone = latestStart(dueIn(300), maxLevel, options())
  expect(latestStart([milder, ...dueIn(300)], maxLevel, options())).toBeCloseTo(
    alone - costs.fastestUpTo()[0]!,
  )
  expect(latestStart(dueIn(20), 0, options())).toBe(Infinity)
})

test('a run may take as long as its own images and those behind it have time', () => {
  const timeFor = (...inMs: number[]) => timeForRun(dueIn(...inMs), 0, { ...options(), devices: 1 })
  expect(timeFor(300, 300)(2)).toBe(300)
  // The second one runs alone for 70 ms if it is not taken along.
  expect(timeFor(300, 300)(1)).toBe(230)
  expect(timeFor(300, 300)(4)).toBe(300)
})

test('where not all can be in time the run is for those in it', () => {
  const timeFor = timeForRun(dueIn(75, 80, 85), 0, { ...options(), devices: 1 })
  expect(timeFor(1)).toBe(75)
  expect(timeForRun(dueIn(10, 90), 0, { ...options(), devices: 1 })(2)).toBe(90)
})

describe('leavesRoom', () => {
  /** A run takes 60 ms with one image, 80 with two, 120 with four. */
  const costs = device({ fixedMs: 40, rowMs: 20, buckets: [1, 2, 4] })
  const longest = (rest: Partial<InteractiveRoomOptions> = {}) => {
    const options = {
      runMs: costs.runTimes(0),
      waiting: 0,
      upstream: 0,
      arrivalRate: 0,
      targetMs: 500,
      slowdown: 1,
      ...rest,
    }
    return Array.from({ length: 50 }, (_, i) => 10 * i).findLast((ms) => leavesRoom(ms, options))
  }

  test('the image that comes right after the start has time for a run of its own', () => {
    expect(longest()).toBe(440)
    expect(longest({ slowdown: 1.25 })).toBe(340)
  })

  test('the more wait, come or are on their way, the less room there is', () => {
    expect(longest({ waiting: 1 })).toBe(420)
    expect(longest({ upstream: 12 })).toBeLessThan(400)
    expect(longest({ arrivalRate: 1 })).toBe(440)
    expect(longest({ arrivalRate: 50 })).toBeLessThan(400)
  })

  test('no run leaves room when there is none', () => {
    expect(longest({ targetMs: 50 })).toBeUndefined()
    expect(longest({ waiting: 50 })).toBeUndefined()
  })
})

describe('latestStarts', () => {
  /** Times of runs of 0 to 4 images: each costs 10, each row 5. */
  const runMs = [0, 15, 20, 25, 30]

  test('nothing to serve can begin at any time', () => {
    expect(latestStarts([], runMs)).toEqual([Infinity])
  })

  test('a run has to end when its tightest image is due, and leaves the time that later runs take', () => {
    expect(latestStarts([100], runMs)).toEqual([85, Infinity])
    expect(latestStarts([100, 100], runMs)[0]).toBe(80)
    // The first is alone: with the second its run would take until 20.
    expect(latestStarts([16, 100], runMs)).toEqual([1, 85, Infinity])
    expect(latestStarts([16, 30], runMs)[0]).toBe(0)
  })

  test('says when there is no way, and does not mind images that need not be in time', () => {
    expect(latestStarts([16, 28], runMs)[0]).toBeLessThan(0)
    expect(latestStarts([Infinity, Infinity], runMs)).toEqual([Infinity, Infinity, Infinity])
    expect(latestStarts([Infinity, 100], runMs)[0]).toBe(80)
  })

  /** All ways to form runs, tried one by one. */
  function latestOfAllCuts(ends: readonly number[], times: readonly number[]): number {
    if (ends.length === 0) return Number.POSITIVE_INFINITY
    const starts = times.slice(1, ends.length + 1).map((ms, index) => {
      const size = index + 1
      const tightest = Math.min(...ends.slice(0, size))
      return Math.min(tightest, latestOfAllCuts(ends.slice(size), times)) - ms
    })
    return Math.max(...starts)
  }

  test('finds the best of all ways to form runs', () => {
    const ends = fc.array(fc.integer({ min: 1, max: 200 }), { maxLength: 9 })
    const times = fc.array(fc.integer({ min: 1, max: 50 }), { minLength: 1, maxLength: 4 })
    fc.assert(
      fc.property(ends, times, (unsorted, steps) => {
        const sorted = unsorted.toSorted((a, b) => a - b)
        let total = 0
        const sums = [0, ...steps.map((ms) => (total += ms))]
        expect(latestStarts(sorted, sums)[0]).toBe(latestOfAllCuts(sorted, sums))
      }),
      { seed: 1, numRuns: 200 },
    )
  })
})
