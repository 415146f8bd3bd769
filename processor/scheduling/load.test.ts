import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { maxAllowedLevel } from './level.ts'
import type { QueuedImage } from './queue.ts'
import { device, image, levels, type Served, simulate, traffic } from './scenario.fixture.ts'

/** A device that serves about 50 images/s unpruned and 120 at the highest level, on a virtual clock. */
const costs = device({ fixedMs: 2, rowMs: 20 })
/** One whose runs cost more than their rows: large batches pay. */
const gpu = device({ fixedMs: 20, rowMs: 4 })
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

describe('a tenfold burst of 20 s that the highest level can serve', () => {
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

describe('no flapping', () => {
  test('under an even load the level settles and stays', () => {
    fc.assert(
      fc.property(fc.double({ min: 0.2, max: 0.95, noNaN: true }), fc.boolean(), (share, isGpu) => {
        const on = isGpu ? gpu : costs
        const perSecond = share * on.throughput(levels.length - 1)
        const over = simulate(traffic({ from: 0, to: 30_000, perSecond }), { costs: on }).levels
        expect(changes(over.filter(({ at }) => at > 15_000))).toBe(0)
      }),
      // Level 1 leaves no queue behind, and level 0 not enough room: the rate has to be remembered while images are alone.
      { seed: 1, numRuns: 30, examples: [[0.376, false]] },
    )
  })

  test.each([0.5, 0.8, 0.95, 1.05, 1.3, 1.6])(
    'under a random load of %d times what is served unpruned it changes at most five times in ten seconds',
    (share) => {
      for (const on of [costs, gpu]) {
        const perSecond = share * on.throughput(0)
        const { levels: over } = simulate(traffic({ from: 0, to: 65_000, perSecond, random: seeded(7) }), {
          costs: on,
        })
        expect(changes(over.filter(({ at }) => at > 5000)) / 6).toBeLessThanOrEqual(5)
      }
    },
  )
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

describe('batch work that saturates devices with random interactive images at a fifth of their capacity', () => {
  /** A CPU whose largest batch takes as long as a caller waits, and a GPU. Runs take up to 15 % more or less. */
  const cpu = device({ fixedMs: 15, rowMs: 28 })
  test.each([
    ['a GPU', gpu, 1],
    ['a CPU', cpu, 1],
    ['three CPUs', cpu, 3],
  ])('%s: callers are in time, the devices are busy, and batch work gets the rest', (_, on, devices) => {
    const random = seeded(11)
    const noise = seeded(12)
    const runMs = ({ predictedMs }: { predictedMs: number }) => predictedMs * (0.85 + 0.3 * noise())
    const capacity = on.throughput(0) * devices
    const untilMs = 30_000
    const interactive = traffic({ from: 0, to: untilMs, perSecond: 0.2 * capacity, random })
    const work = Array.from({ length: Math.ceil(1.2 * capacity * (untilMs / 1000)) }, (_, i) =>
      image(`work${i}`, { lane: 'batch', deadline: 86_400_000 }),
    )
    const run = (images: QueuedImage<string>[]) => {
      const { served } = simulate(images, { costs: on, devices, runMs })
      return served.filter(({ doneAt }) => doneAt < untilMs)
    }
    const beside = run([...interactive, ...work])
    const ofLane = (lane: string) => beside.filter((each) => each.image.lane === lane)
    const latencies = ofLane('interactive').map(({ image, doneAt }) => doneAt - image.enqueuedAt)
    expect(latencies.length).toBeGreaterThan(0.98 * interactive.length)
    expect(latencies.toSorted((a, b) => a - b)[Math.floor(0.99 * latencies.length)]).toBeLessThan(500)
    expect(beside.every(({ level }) => level === 0)).toBe(true)
    expect(ofLane('batch').length).toBeGreaterThan(0.75 * run(work).length)
    expect(busyShare(beside, devices, untilMs)).toBeGreaterThan(0.95)
  })
})

/** Share of the time that the devices spent on these images. */
function busyShare(served: Served[], devices: number, untilMs: number): number {
  const runs = new Map(served.map(({ startedAt, doneAt }) => [`${startedAt} ${doneAt}`, doneAt - startedAt]))
  return [...runs.values()].reduce((sum, ms) => sum + ms, 0) / (devices * untilMs)
}

describe('more than the highest level can serve', () => {
  test.each([
    ['a GPU', gpu],
    ['a device whose runs are long', device({ fixedMs: 60, rowMs: 30 })],
  ])('%s: what is taken is in time, and the device stays busy with it', (_, on) => {
    const perSecond = 1.5 * on.throughput(levels.length - 1)
    const trace = traffic({ from: 0, to: 30_000, perSecond, random: seeded(2) })
    const { served, rejected, busyMs } = simulate(trace, { costs: on, admits: true })
    expect(missed(served)).toBeLessThan(0.005)
    expect(rejected.length).toBeGreaterThan(0.3 * trace.length)
    expect(busyMs).toBeGreaterThan(0.97 * 30_000)
    expect(missed(simulate(trace, { costs: on }).served)).toBeGreaterThan(0.3)
  })
})

test('no image is starved by later ones, whatever it allows and whatever its lane', () => {
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

describe('no starvation below capacity, whatever an image allows and whatever its lane', () => {
  const anyLane = fc.constantFrom('interactive' as const, 'batch' as const)
  const anyPrune = fc.constantFrom(0, 0.3, 1)
  const anyGroup = fc.constantFrom('no prompt', 'long prompt')
  const anyCosts = fc.record({ fixedMs: fc.nat(60), rowMs: fc.integer({ min: 5, max: 40 }) }).map(device)

  test('among crowds of any kind', () => {
    const crowd = fc.record({
      lane: anyLane,
      maxPrune: anyPrune,
      group: anyGroup,
      deadlineMs: fc.option(fc.integer({ min: 50, max: 2000 }), { nil: undefined }),
      count: fc.integer({ min: 1, max: 25 }),
    })
    fc.assert(
      fc.property(fc.array(crowd, { minLength: 1, maxLength: 40 }), anyCosts, (crowds, on) => {
        let at = 0
        const arrivals = crowds.flatMap(({ deadlineMs, count, ...rest }, index) => {
          const each = { ...rest, enqueuedAt: at, deadline: deadlineMs && at + deadlineMs }
          // The next crowd leaves the device time to run them one by one, as hard as they allow.
          const level = deadlineMs === undefined ? 0 : maxAllowedLevel(levels, rest.maxPrune)
          at += 1.1 * count * on.predict(1, level)
          return Array.from({ length: count }, (_, i) => image(`${index} ${i}`, each))
        })
        const { served } = simulate(arrivals, { costs: on })
        expect(served).toHaveLength(arrivals.length)
        expect(longestWait(served)).toBeLessThan(5000)
      }),
      { seed: 1, numRuns: 100 },
    )
  })

  test('a few odd ones among callers who keep the device busy', () => {
    const odd = fc.record({
      lane: anyLane,
      maxPrune: anyPrune,
      group: anyGroup,
      enqueuedAt: fc.integer({ min: 0, max: 5000 }),
      deadlineMs: fc.integer({ min: 0, max: 5000 }),
    })
    const share = fc.double({ min: 0.5, max: 0.9, noNaN: true })
    fc.assert(
      fc.property(fc.array(odd, { minLength: 1, maxLength: 8 }), share, anyCosts, (specs, busy, on) => {
        const perSecond = busy * on.throughput(levels.length - 1)
        const callers = traffic({ from: 0, to: 20_000, perSecond, random: seeded(1) })
        const odds = specs.map(({ deadlineMs, ...rest }, i) => {
          // Nobody waits for batch images; callers may be late, and let others pass for a while when they are.
          const deadline = rest.lane === 'batch' ? undefined : rest.enqueuedAt + deadlineMs
          return image(`odd ${i}`, { ...rest, deadline })
        })
        const { served } = simulate([...callers, ...odds], { costs: on, batchIntervalMs: 1000 })
        expect(served).toHaveLength(callers.length + odds.length)
        expect(longestWait(served.filter(({ image: { id } }) => id.startsWith('odd')))).toBeLessThan(11_000)
      }),
      { seed: 1, numRuns: 60 },
    )
  })
})

function longestWait(served: Served[]): number {
  return Math.max(...served.map(({ image, doneAt }) => doneAt - image.enqueuedAt))
}
