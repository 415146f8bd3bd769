import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Backlog } from './backlog.ts'
import { type Load, leastLevel } from './least-level.ts'
import { hardestAllowed } from './level.ts'
import { latestStart } from './line-head.ts'
import type { QueuedImage } from './queue.ts'
import { device, image, levels, queueOf } from './scenario.ts'
import { servingPlan } from './serving-plan.ts'

const hardest = levels.length - 1
/** 100 ms an image unpruned, 40 ms at the hardest level, whatever the batch size. */
const flat = device({ fixedMs: 0, rowMs: 100, buckets: [1] })

const waiting = (count: number, rest: Partial<QueuedImage<string>> = {}) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, rest))

const loadOf = (images: QueuedImage<string>[], rest: Partial<Load> = {}): Load => ({
  line: queueOf(images).line('interactive'),
  costs: flat,
  devices: 1,
  arrivalRate: 0,
  drainMs: Infinity,
  ...rest,
})

describe('a backlog beyond the line', () => {
  const demand = (images: QueuedImage<string>[], beyond: Backlog[], rest: Partial<Load> = {}) =>
    leastLevel(loadOf(images, { beyond, ...rest }), { now: 0, margin: 0 })
  const backlog = (images: number, deadline: number, most = hardest) => ({ images, deadline, hardest: most })

  test('that does not fit into its time is pruned just as far as needed, and only what is due by then', () => {
    expect(demand([], [backlog(100, 10_000)])).toMatchObject({ level: 0 })
    expect(demand([], [backlog(101, 10_000)])).toEqual({ level: 1, until: 10_000, holds: true })
    expect(demand([], [backlog(250, 10_000)])).toEqual({ level: hardest, until: 10_000, holds: true })
    expect(demand([], [backlog(251, 10_000)])).toMatchObject({ level: hardest, holds: false })
  })

  test('waits for the images of the line that are due before it, and not for those due later', () => {
    const line = [...waiting(5, { deadline: 5000 }), image('later', { deadline: 20_000 })]
    expect(demand(line, [backlog(95, 10_000)]).level).toBe(0)
    expect(demand(line, [backlog(96, 10_000)])).toMatchObject({ level: 1, until: 10_000 })
  })

  test('keeps the images of the line waiting that are due after it', () => {
    expect(demand(waiting(1, { deadline: 1000 }), [backlog(9, 900)]).level).toBe(0)
    expect(demand(waiting(2, { deadline: 1000 }), [backlog(9, 900)])).toMatchObject({ level: 1, until: 1000 })
    expect(demand(waiting(2, { deadline: 1000 }), [backlog(9, 1001)])).toMatchObject({ until: 1001 })
  })

  test('a later batch is not pruned because an earlier one is late', () => {
    const late = backlog(1000, 10_000)
    const onTime = backlog(450, 60_000)
    expect(demand([], [onTime, late], { expires: true })).toMatchObject({ level: hardest, until: 10_000 })
    // Callers are answered however late, so what is left of them at their deadline keeps others waiting.
    expect(demand([], [onTime, late]).until).toBe(60_000)
  })

  test('that is too late already is none of batch work and still in the way of callers', () => {
    const past = backlog(20, -1)
    expect(demand(waiting(5, { deadline: 500 }), [past], { expires: true }).level).toBe(0)
    expect(demand(waiting(5, { deadline: 1300 }), [past]).level).toBeGreaterThan(0)
  })

  test('without a deadline asks for nothing, but has to drain where a line has to', () => {
    expect(demand(waiting(1), [backlog(1000, Infinity)]).level).toBe(0)
    const drains = { drainMs: 1000 }
    expect(demand(waiting(1), [backlog(10, Infinity)], drains).level).toBe(0)
    expect(demand(waiting(1), [backlog(12, Infinity)], drains).level).toBeGreaterThan(0)
  })

  test('is not hurried on to be done before it can have been decoded', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
    expect(demand([], [backlog(20, 1000)], { costs }).level).toBe(hardest)
    costs.observeDecoding(80)
    // Decoding takes 1.6 s, and 20 images take as long at level 2.
    expect(demand([], [backlog(20, 1000)], { costs })).toMatchObject({ level: 2, holds: true })
    costs.observeDecoding(400)
    expect(demand([], [backlog(20, 1000)], { costs }).level).toBe(0)
  })
})

interface Spec {
  deadline: number
  maxPrune: number
}

const anySpecs = (maxPrune: fc.Arbitrary<number>, most = 60) =>
  fc.array(fc.record({ deadline: fc.integer({ min: 1, max: 3000 }), maxPrune }), {
    minLength: 1,
    maxLength: most,
  })
const mixed = fc.constantFrom(0, 0.3, 1)
const anyBacklogs = fc.array(
  fc.record({
    deadline: fc.integer({ min: 1, max: 6000 }),
    images: fc.integer({ min: 1, max: 60 }),
    hardest: fc.nat(hardest),
  }),
  { maxLength: 6 },
)
const anyCosts = fc
  .record({
    fixedMs: fc.integer({ min: 1, max: 60 }),
    rowMs: fc.integer({ min: 1, max: 60 }),
    buckets: fc.constantFrom([1], [1, 2, 4, 8, 16], [4, 8]),
  })
  .map(device)
const imagesOf = (specs: readonly Spec[]) => specs.map((rest, i) => image(`${i}`, rest))

describe('for any load', () => {
  const margin = 0.1
  const options = { now: 0, margin }

  /** Whether everything that can be in time is, by the same predictions, looked up image by image. */
  function holdsAt(specs: readonly Spec[], level: number, load: Load): boolean {
    const plan = servingPlan(load)
    const line = specs.map(({ deadline, maxPrune }) => ({
      deadline,
      images: 1,
      hardest: hardestAllowed(levels, maxPrune),
      beyond: 0,
    }))
    const backlogs = (load.beyond ?? []).map((backlog) => ({ ...backlog, beyond: 1 }))
    const inOrder = [...line, ...backlogs].sort((a, b) => a.deadline - b.deadline || a.beyond - b.beyond)
    let images = 0
    let workMs = 0
    const served = inOrder.every((group) => {
      images += group.images
      workMs += group.images * plan.msPerImage[Math.min(group.hardest, level)]!
      const budget = group.deadline / (1 + margin)
      return budget < plan.soonest[group.hardest]! || plan.finish(level, images, workMs) <= budget + 1e-9
    })
    if (!Number.isFinite(load.drainMs)) return served
    const head = line.toSorted((a, b) => a.deadline - b.deadline)
    const waitingImages = images
    const backlog = Math.max(0, waitingImages - load.devices * load.costs.buckets.at(-1)!)
    const drainWork = ((backlog + (load.arrivalRate * load.drainMs) / 1000) * workMs) / waitingImages
    const drains = drainWork * (1 + margin) <= load.devices * load.drainMs + 1e-9
    return (
      served &&
      drains &&
      latestStart(head, level, { costs: load.costs, plan, now: 0, slowdown: 1 + margin }) >= 0
    )
  }

  test('the level is the least one with which everything is in time that can be', () => {
    const anyDrain = fc.constantFrom(Infinity, 500, 5000)
    fc.assert(
      fc.property(
        anySpecs(mixed),
        anyBacklogs,
        anyCosts,
        anyDrain,
        fc.nat(30),
        (specs, beyond, costs, drainMs, arrivalRate) => {
          const load = loadOf(imagesOf(specs), { beyond, costs, drainMs, arrivalRate })
          const { level, holds } = leastLevel(load, options)
          const { steps } = servingPlan(load)
          const below = steps[steps.indexOf(level) - 1]
          expect(holdsAt(specs, level, load)).toBe(holds)
          if (below !== undefined) expect(holdsAt(specs, below, load)).toBe(false)
          if (!holds) expect(level).toBe(steps.at(-1))
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })

  const change = fc.record({
    images: anySpecs(mixed, 8),
    beyond: anyBacklogs,
    sooner: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 60 }),
    rate: fc.nat(50),
    fewerDevices: fc.boolean(),
  })

  /** No deadline falls below what a lone image takes: what cannot be in time asks for nothing. */
  const shortened = ({ deadline, maxPrune }: Spec, share: number, costs: Load['costs']): Spec => {
    const allowed = hardestAllowed(levels, maxPrune)
    const soonest = Math.min(...levels.slice(0, allowed + 1).map((_, level) => costs.runTimes(level)[1]!))
    const least = (1 + margin) * soonest * 1.001
    return { deadline: deadline <= least ? deadline : deadline - share * (deadline - least), maxPrune }
  }

  test.each([
    { by: 'its deadlines alone', drainMs: Infinity, maxPrune: mixed },
    { by: 'a drain time too', drainMs: 500, maxPrune: fc.constant(1) },
  ])('more load never asks for less of a line that is measured by $by', ({ drainMs, maxPrune }) => {
    const anyChange = change.chain((changed) =>
      anySpecs(maxPrune, 8).map((images) => ({ ...changed, images })),
    )
    const anyRate = fc.nat(50)
    fc.assert(
      fc.property(
        anySpecs(maxPrune, 50),
        anyBacklogs,
        anyChange,
        anyCosts,
        anyRate,
        (specs, beyond, more, costs, arrivalRate) => {
          const alike = (backlogs: Backlog[]) =>
            Number.isFinite(drainMs) ? backlogs.map((each) => ({ ...each, hardest })) : backlogs
          const light = { costs, devices: 2, beyond: alike(beyond), arrivalRate, drainMs }
          const level = (images: readonly Spec[], rest: Partial<Load> = {}) =>
            leastLevel(loadOf(imagesOf(images), { ...light, ...rest }), options).level
          const least = level(specs)
          const sooner = specs.map((spec, i) => shortened(spec, more.sooner[i] ?? 0, costs))
          expect(level([...specs, ...more.images])).toBeGreaterThanOrEqual(least)
          expect(level(sooner)).toBeGreaterThanOrEqual(least)
          expect(level(specs, { beyond: alike([...beyond, ...more.beyond]) })).toBeGreaterThanOrEqual(least)
          expect(level(specs, { arrivalRate: arrivalRate + more.rate })).toBeGreaterThanOrEqual(least)
          expect(level(specs, { devices: 1 })).toBeGreaterThanOrEqual(least)
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })
})
