import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { QueuedImage } from './queue.ts'
import { device, levels, type Served, simulate, traffic } from './scenario.ts'

/** A device that serves about 50 images/s unpruned and 120 at the hardest level, on a virtual clock. */
const costs = device({ fixedMs: 2, rowMs: 20 })
const unprunedRate = costs.throughput(0)
const hardestRate = costs.throughput(levels.length - 1)

/** Mulberry32: a small seeded generator, so that a random trace is the same in every run. */
const seeded = (seed: number) => () => {
  seed = (seed + 0x6d2b79f5) | 0
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed)
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296
}

const missed = (served: Served[]) =>
  served.filter(({ image, doneAt }) => doneAt > image.deadline!).length / served.length
const changes = (over: { level: number }[]) =>
  over.filter(({ level }, i) => i > 0 && level !== over[i - 1]!.level).length
const unpruned = (images: QueuedImage<string>[]) => images.map((image) => ({ ...image, maxPrune: 0 }))

describe('a tenfold burst of 20 s that the hardest level can serve', () => {
  const random = seeded(1)
  const burst = 0.85 * hardestRate
  const trace = [
    ...traffic({ from: 0, to: 20_000, perSecond: burst / 10, random }),
    ...traffic({ from: 20_000, to: 40_000, perSecond: burst, random }),
    ...traffic({ from: 40_000, to: 80_000, perSecond: burst / 10, random }),
  ]
  const adaptive = simulate(trace, { costs })
  const full = simulate(unpruned(trace), { costs })

  test('adaptive pruning holds the deadlines that full quality misses', () => {
    expect(missed(full.served)).toBeGreaterThan(0.5)
    expect(missed(adaptive.served)).toBeLessThan(missed(full.served) / 10)
  })

  test('before and after the burst nothing is pruned', () => {
    const calm = adaptive.served.filter(({ startedAt }) => startedAt < 20_000 || startedAt > 45_000)
    expect(calm.length).toBeGreaterThan(300)
    expect(calm.every(({ level }) => level === 0)).toBe(true)
    expect(adaptive.levels.at(-1)?.level).toBe(0)
  })
})

test('under a constant load the level settles', () => {
  fc.assert(
    fc.property(fc.double({ min: 0.2, max: 0.95, noNaN: true }), (share) => {
      const over = simulate(traffic({ from: 0, to: 30_000, perSecond: share * hardestRate }), {
        costs,
      }).levels
      expect(changes(over.filter(({ at }) => at > 10_000))).toBeLessThanOrEqual(1)
    }),
    { numRuns: 30 },
  )
})

test('under a random load of constant rate the level changes seldom', () => {
  for (const share of [0.5, 0.8, 0.95, 1.05, 1.3, 1.6]) {
    const trace = traffic({ from: 0, to: 60_000, perSecond: share * unprunedRate, random: seeded(7) })
    expect(changes(simulate(trace, { costs }).levels)).toBeLessThan(30)
  }
})

test('a steady low load is not pruned', () => {
  const trace = traffic({ from: 0, to: 60_000, perSecond: 0.5 * unprunedRate, random: seeded(3) })
  expect(simulate(trace, { costs }).served.every(({ level }) => level === 0)).toBe(true)
})

test('more devices prune less', () => {
  const trace = traffic({ from: 0, to: 20_000, perSecond: 1.5 * unprunedRate, random: seeded(5) })
  const pruned = (devices: number) =>
    simulate(trace, { costs, devices }).served.filter(({ level }) => level > 0).length
  expect(pruned(1)).toBeGreaterThan(trace.length / 2)
  expect(pruned(2)).toBeLessThan(trace.length / 20)
})

describe('batch work beside a steady interactive load', () => {
  const random = seeded(11)
  const gpu = device({ fixedMs: 20, rowMs: 4 })
  const interactive = traffic({ from: 0, to: 20_000, perSecond: 0.2 * gpu.throughput(0), random })
  const work = traffic({ from: 0, to: 50, perSecond: 100_000 }, { lane: 'batch', deadline: 86_400_000 })
  const { served } = simulate([...interactive, ...work], { costs: gpu })
  const during = served.filter(({ doneAt }) => doneAt < 20_000)
  const ofLane = (lane: string) => during.filter(({ image }) => image.lane === lane)

  test('no interactive image is late and nothing is pruned', () => {
    expect(missed(ofLane('interactive'))).toBe(0)
    expect(during.every(({ level }) => level === 0)).toBe(true)
  })

  test('the device is filled', () => {
    expect(during.length / 20).toBeGreaterThan(0.95 * gpu.throughput(0))
  })
})

test('no image is starved by newcomers, whatever it allows and whatever its lane', () => {
  const overload = traffic({ from: 0, to: 20_000, perSecond: 0.95 * hardestRate })
  const odd = { enqueuedAt: 1000, deadline: 1500 }
  const [pure, grouped, filler] = [
    { ...overload[0]!, ...odd, id: 'pure', maxPrune: 0 },
    { ...overload[0]!, ...odd, id: 'grouped', group: 'long prompt' },
    { ...overload[0]!, id: 'filler', lane: 'batch' as const, deadline: undefined },
  ]
  const { served } = simulate([...overload, pure, grouped, filler], { costs })
  const doneAt = (id: string) => served.find(({ image }) => image.id === id)!.doneAt
  expect(doneAt('pure')).toBeLessThan(1600)
  expect(doneAt('grouped')).toBeLessThan(1600)
  expect(doneAt('filler')).toBeLessThan(6000)
  expect(served).toHaveLength(overload.length + 3)
})
