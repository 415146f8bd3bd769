import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import type { Load } from './least-level.ts'
import { type Backlog, maxAllowedLevel } from './level.ts'
import type { QueuedImage } from './queue.ts'
import { latestStart } from './queue-head.ts'
import { device, flat, image, leastLevel, levels, loadOf } from './scenario.fixture.ts'
import { servingPlan } from './service-order.ts'

const maxLevel = levels.length - 1

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
    maxLevel: fc.nat(maxLevel),
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
  const options = { now: 0, margin, drainMargin: 0.05 }

  /** True when everything that can be in time is, by the same predictions, looked up image by image. */
  function holdsAt(specs: readonly Spec[], level: number, load: Load): boolean {
    const plan = servingPlan(load)
    const queue = specs.map(({ deadline, maxPrune }) => ({
      deadline,
      images: 1,
      maxLevel: maxAllowedLevel(levels, maxPrune),
      upstream: 0,
    }))
    const backlogs = (load.upstream ?? []).map((backlog) => ({ ...backlog, upstream: 1 }))
    const inOrder = [...queue, ...backlogs].sort((a, b) => a.deadline - b.deadline || a.upstream - b.upstream)
    let images = 0
    let workMs = 0
    const served = inOrder.every((group) => {
      images += group.images
      workMs += group.images * plan.msPerImage[Math.min(group.maxLevel, level)]!
      const budget = group.deadline / (1 + margin)
      return budget < plan.soonest[group.maxLevel]! || plan.finish(level, images, workMs) <= budget + 1e-9
    })
    if (!Number.isFinite(load.drainMs)) return served
    const head = queue.toSorted((a, b) => a.deadline - b.deadline)
    const waitingImages = images
    const backlog = Math.max(0, waitingImages - load.devices * load.costs.buckets.at(-1)!)
    const drainWork = ((backlog + (load.arrivalRate * load.drainMs) / 1000) * workMs) / waitingImages
    const drains = drainWork * (1 + options.drainMargin) <= load.devices * load.drainMs + 1e-9
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
        (specs, upstream, costs, drainMs, arrivalRate) => {
          const load = loadOf(imagesOf(specs), { upstream, costs, drainMs, arrivalRate })
          const { level, feasible } = leastLevel(load, options)
          const { steps } = servingPlan(load)
          const below = steps[steps.indexOf(level) - 1]
          expect(holdsAt(specs, level, load)).toBe(feasible)
          if (below !== undefined) expect(holdsAt(specs, below, load)).toBe(false)
          if (!feasible) expect(level).toBe(steps.at(-1))
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })

  const change = fc.record({
    images: anySpecs(mixed, 8),
    upstream: anyBacklogs,
    sooner: fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 60 }),
    rate: fc.nat(50),
    fewerDevices: fc.boolean(),
  })

  /** No deadline falls below what a lone image takes: what cannot be in time asks for nothing. */
  const shortened = ({ deadline, maxPrune }: Spec, share: number, costs: Load['costs']): Spec => {
    const allowed = maxAllowedLevel(levels, maxPrune)
    const soonest = Math.min(...levels.slice(0, allowed + 1).map((_, level) => costs.runTimes(level)[1]!))
    const least = (1 + margin) * soonest * 1.001
    return { deadline: deadline <= least ? deadline : deadline - share * (deadline - least), maxPrune }
  }

  test.each([
    { by: 'its deadlines alone', drainMs: Infinity, maxPrune: mixed },
    { by: 'a drain time too', drainMs: 500, maxPrune: fc.constant(1) },
  ])('more load never asks for less of a queue that is measured by $by', ({ drainMs, maxPrune }) => {
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
        (specs, upstream, more, costs, arrivalRate) => {
          const alike = (backlogs: Backlog[]) =>
            Number.isFinite(drainMs) ? backlogs.map((each) => ({ ...each, maxLevel })) : backlogs
          const light = { costs, devices: 2, upstream: alike(upstream), arrivalRate, drainMs }
          const level = (images: readonly Spec[], rest: Partial<Load> = {}) =>
            leastLevel(loadOf(imagesOf(images), { ...light, ...rest }), options).level
          const least = level(specs)
          const sooner = specs.map((spec, i) => shortened(spec, more.sooner[i] ?? 0, costs))
          expect(level([...specs, ...more.images])).toBeGreaterThanOrEqual(least)
          expect(level(sooner)).toBeGreaterThanOrEqual(least)
          expect(level(specs, { upstream: alike([...upstream, ...more.upstream]) })).toBeGreaterThanOrEqual(
            least,
          )
          expect(level(specs, { arrivalRate: arrivalRate + more.rate })).toBeGreaterThanOrEqual(least)
          expect(level(specs, { devices: 1 })).toBeGreaterThanOrEqual(least)
        },
      ),
      { seed: 1, numRuns: 300 },
    )
  })

  test('the level meets every deadline that can be met, and the level below it does not', () => {
    /** Serves the queue one by one in deadline order; true when everything that could ever be in time is. */
    const inTimeAt = (images: QueuedImage<string>[], level: number) => {
      let doneAt = 0
      return images
        .toSorted((a, b) => a.deadline! - b.deadline!)
        .every(({ maxPrune, deadline }) => {
          const allowed = levels.findLastIndex(({ pruneRatio }) => pruneRatio <= maxPrune)
          doneAt += flat.predict(1, Math.min(level, allowed))
          return doneAt <= deadline! || flat.predict(1, allowed) > deadline!
        })
    }
    fc.assert(
      fc.property(anySpecs(mixed), (specs) => {
        const images = imagesOf(specs)
        const { level, feasible } = leastLevel(loadOf(images), { now: 0, margin: 0, drainMargin: 0 })
        expect(inTimeAt(images, level)).toBe(feasible)
        if (level > 0) expect(inTimeAt(images, level - 1)).toBe(false)
        if (!feasible) expect(level).toBe(maxLevel)
      }),
      { seed: 1, numRuns: 200 },
    )
  })
})
