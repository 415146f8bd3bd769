import { describe, expect, test } from 'vitest'
import { seededRandom } from '../../infra/starter-model/random.ts'
import { deviceCosts } from './device-costs.fixture.ts'
import { SimulationInputError } from './errors.ts'
import type { Policy } from './policies.ts'
import { type SimulationOptions, simulate } from './simulate.ts'
import { burst, poissonArrivals, steady } from './traces.ts'

const full: Policy = { name: 'full', level: 0, autoscale: false }
const adaptive: Policy = { name: 'adaptive', autoscale: true }
const fixedFleet: Policy = { name: 'adaptive-fixed-fleet', autoscale: false }

const costs = deviceCosts()
const steadyArrivals = (perSecond: number, durationMs: number, seed = 1) =>
  poissonArrivals(steady({ perSecond, durationMs }), seededRandom(seed))

/** Base 10/s, then 100/s for 20 s: twice what one device does unpruned, and within what it does at the highest level. */
const tenfold = poissonArrivals(
  burst({ perSecond: 10, factor: 10, burstAtMs: 20_000, burstMs: 20_000, durationMs: 80_000 }),
  seededRandom(7),
)
const play = (options: Partial<SimulationOptions> = {}) => simulate({ arrivals: tenfold, costs, ...options })

test('a lone request takes the way to the processor, decoding, its run and the way back', () => {
  const report = simulate({ arrivals: [{ at: 0 }], costs, fleet: { jitter: 0 } })
  expect(report).toMatchObject({ requests: 1, answered: 1, meanLevel: 0, missShare: 0 })
  expect(report.p50Ms).toBeCloseTo(3 + 2 + 25 + 4)
})

test('at low load everything is served at full quality', () => {
  const report = simulate({ arrivals: steadyArrivals(10, 60_000), costs })
  expect(report).toMatchObject({ shed: 0, late: 0, meanLevel: 0, meanPruneRatio: 0, meanQuality: 1 })
})

test('in a burst adaptive pruning misses far fewer than full quality, and prunes for it', () => {
  const pruned = play({ policy: fixedFleet })
  const unpruned = play({ policy: full })
  expect(unpruned.missShare).toBeGreaterThan(0.3)
  expect(pruned.missShare).toBeLessThan(unpruned.missShare / 10)
  expect(pruned.meanLevel).toBeGreaterThan(0.5)
  expect(unpruned.meanLevel).toBe(0)
})

test('a processor believes what its calibration measured until its runs tell otherwise', () => {
  const faster = costs.samples.map((sample) => ({ ...sample, ms: sample.ms / 10 }))
  const arrivals = steadyArrivals(150, 500)
  const { meanLevel } = simulate({ arrivals, costs: { ...costs, seeds: faster } })
  expect(meanLevel).toBeLessThan(simulate({ arrivals, costs }).meanLevel / 2)
})

test('a pinned level is the level of every image that allows it', () => {
  expect(play({ policy: { name: 'level:2', level: 2, autoscale: false } }).meanLevel).toBe(2)
  const arrivals = tenfold.map((arrival) => ({ ...arrival, maxPrune: 0.3 }))
  expect(play({ arrivals, policy: { name: 'level:2', level: 2, autoscale: false } }).meanLevel).toBe(1)
})

test('the same seed gives the same report, another one another', () => {
  const options = { policy: adaptive, fleet: { replicas: 2, startMs: 5_000, mtbfMs: 30_000 } }
  expect(play(options)).toEqual(play(options))
  expect(play(options)).not.toEqual(play({ ...options, seed: 2 }))
})

describe('every request is answered or rejected once', () => {
  test.each([
    ['in overload', { policy: full }],
    ['while the fleet scales', { policy: adaptive, fleet: { startMs: 5_000, scaleDownWindowMs: 10_000 } }],
    ['while replicas fail', { fleet: { replicas: 3, startMs: 2_000, mtbfMs: 10_000 } }],
    ['when the only replica fails', { fleet: { replicas: 1, startMs: 2_000, mtbfMs: 15_000 } }],
    ['with slow replicas', { fleet: { replicas: 4, stragglers: 0.5, stragglerFactor: 5 } }],
    [
      'beside a batch',
      { batch: { lines: 600, windowMs: 60_000 }, fleet: { mtbfMs: 15_000, startMs: 1_000 } },
    ],
    ['with few places', { fleet: { replicas: 2, queueLimit: 5 } }],
  ] satisfies [string, Partial<SimulationOptions>][])('%s', (_, options) => {
    const report = play(options)
    expect(report.answered + report.shed).toBe(tenfold.length)
    expect(report.requests).toBe(tenfold.length)
  })
})

test('what a failed replica had in hand is served elsewhere, and its place is taken', () => {
  const report = play({ fleet: { replicas: 3, startMs: 2_000, mtbfMs: 10_000 } })
  expect(report.failures).toBeGreaterThan(3)
  expect(report.answered).toBeGreaterThan(0.9 * tenfold.length)
  expect(report.series.some(({ replicas }) => replicas < 3)).toBe(true)
})

describe('a fleet that scales', () => {
  const load = steadyArrivals(90, 300_000)
  const fleet = { maxReplicas: 10, startMs: 20_000 }

  test('gets the replicas that the load needs at full quality, and then prunes no more', () => {
    const report = simulate({ arrivals: load, costs, policy: adaptive, fleet })
    // 90/s over 0.7 of the 49 unpruned images/s of a replica are 2.6.
    expect(report.mostReplicas).toBe(3)
    expect(report.series.at(0)?.meanLevel).toBeGreaterThan(0)
    expect(report.series.slice(-60, -1).every(({ meanLevel }) => meanLevel < 0.2)).toBe(true)
  })

  test('costs only the replicas that there are', () => {
    const fixed = simulate({ arrivals: load, costs, policy: fixedFleet, fleet })
    expect(fixed.replicaHours).toBeCloseTo(300 / 3600, 3)
    const scaled = simulate({ arrivals: load, costs, policy: adaptive, fleet })
    expect(scaled.replicaHours).toBeGreaterThan(2 * fixed.replicaHours)
  })

  test('never has more replicas than partitions', () => {
    const report = simulate({ arrivals: load, costs, policy: adaptive, fleet: { ...fleet, partitions: 2 } })
    expect(report.mostReplicas).toBe(2)
  })

  test('goes away without work and comes back with it', () => {
    const arrivals = [{ at: 0 }, { at: 400_000 }]
    const options = { minReplicas: 0, cooldownMs: 60_000, startMs: 10_000, scaleDownWindowMs: 15_000 }
    const report = simulate({ arrivals, costs, policy: adaptive, fleet: options })
    expect(report.answered).toBe(2)
    expect(report.series.map(({ replicas }) => replicas)).toContain(0)
    expect(report.p99Ms).toBeGreaterThan(10_000)
  })
})

test('partitions that do not divide evenly load some replicas more than others', () => {
  const arrivals = steadyArrivals(110, 60_000)
  const meanLevelWith = (partitions: number) =>
    simulate({ arrivals, costs, fleet: { replicas: 4, partitions } }).meanLevel
  expect(meanLevelWith(5)).toBeGreaterThan(2 * meanLevelWith(40))
})

describe('a batch', () => {
  test('fills the device, is done within its window and is not pruned when it is on time', () => {
    const { batch } = simulate({ arrivals: [], costs, batch: { lines: 2000, windowMs: 120_000 } })
    expect(batch).toMatchObject({ lines: 2000, inTime: true, meanPruneRatio: 0 })
    // 2000 images of 49/s.
    expect(batch?.doneAtMs).toBeLessThan(45_000)
  })

  test('is pruned as far as its window asks', () => {
    const { batch } = simulate({ arrivals: [], costs, batch: { lines: 2000, windowMs: 30_000 } })
    expect(batch?.inTime).toBe(true)
    expect(batch?.meanPruneRatio).toBeGreaterThan(0.1)
    expect(batch?.meanPruneRatio).toBeLessThan(0.7)
  })

  test('is done once although replicas fail', () => {
    const fleet = { replicas: 3, mtbfMs: 8_000, startMs: 2_000 }
    const report = simulate({ arrivals: [], costs, fleet, batch: { lines: 3000, windowMs: 600_000 } })
    expect(report.failures).toBeGreaterThan(1)
    expect(report.batch?.lines).toBe(3000)
  })
})

test('a fleet that loses its work again and again is not waited for', () => {
  const fleet = { mtbfMs: 500, startMs: 20_000 }
  expect(() => simulate({ arrivals: [], costs, fleet, batch: { lines: 600, windowMs: 60_000 } })).toThrow(
    /not done after 24 hours/,
  )
})

test.each([
  [{ arrivals: [] }, /No load/],
  [{ arrivals: [{ at: -1 }] }, /must be 0 or more/],
  [{ arrivals: [{ at: Number.NaN }] }, /must be 0 or more/],
  [{ fleet: { replicas: 0 } }, /replicas must be from 1 to 1000, got 0/],
  [{ fleet: { replicas: 20, partitions: 12 } }, /partitions must be from 20/],
  [{ fleet: { replicas: 5, maxReplicas: 4 } }, /got 5 and 4/],
])('refuses %j', (options, message) => {
  expect(() => play(options)).toThrow(SimulationInputError)
  expect(() => play(options)).toThrow(message)
})
