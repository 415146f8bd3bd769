import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { type Load, leastLevel } from './least-level.ts'
import { PruneController } from './prune-controller.ts'
import type { QueuedImage } from './queue.ts'
import { device, image, levels, queueOf } from './scenario.ts'

const hardest = levels.length - 1
/** 100 ms an image unpruned, 40 ms at the hardest level, whatever the batch size. */
const flat = device({ fixedMs: 0, rowMs: 100, buckets: [1] })

const loadOf = (images: QueuedImage<string>[], rest: Partial<Load> = {}): Load => ({
  line: queueOf(images).line('interactive'),
  costs: flat,
  devices: 1,
  arrivalRate: 0,
  drainMs: Infinity,
  ...rest,
})

const waiting = (count: number, rest: Partial<QueuedImage<string>> = {}) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, rest))

describe('the least level', () => {
  const exactly = { now: 0, margin: 0 }

  test.each([
    ['all in time unpruned', 5, 500, 0],
    ['one late unpruned', 6, 500, 2],
    ['in time at the hardest only', 12, 500, 5],
  ])('%s: %d images due in %d ms need level %d', (_, count, deadline, level) => {
    expect(leastLevel(loadOf(waiting(count, { deadline })), exactly)).toMatchObject({ level, holds: true })
  })

  test('says when even the hardest does not hold', () => {
    expect(leastLevel(loadOf(waiting(13)), exactly)).toMatchObject({ level: hardest, holds: false })
  })

  test('more devices need less, those taken away need more', () => {
    const images = waiting(12)
    expect(leastLevel(loadOf(images, { devices: 3 }), exactly).level).toBe(0)
    expect(leastLevel(loadOf(waiting(5), { devices: 0.5 }), exactly).level).toBe(hardest)
  })

  test('counts the images of other lines that are served first', () => {
    const ahead = levels.map((_, level) => (level === hardest ? 7 : 0))
    expect(leastLevel(loadOf(waiting(5), { ahead }), exactly).level).toBe(hardest)
  })

  test('knows that images which must not be pruned take their time', () => {
    const images = [...waiting(4, { maxPrune: 0 }), image('last', { deadline: 501 })]
    expect(leastLevel(loadOf(images), exactly).level).toBe(0)
    const sixth = image('sixth', { deadline: 502 })
    expect(leastLevel(loadOf([...images, sixth]), exactly).level).toBe(hardest)
  })

  test('an image that would be late even if it were alone asks for nothing, nor does one without a deadline', () => {
    expect(leastLevel(loadOf(waiting(3, { deadline: 39 })), exactly)).toMatchObject({ level: 0, holds: true })
    expect(leastLevel(loadOf(waiting(1000, { deadline: undefined })), exactly).level).toBe(0)
  })

  test('tells up to which deadline the images need it', () => {
    const images = [...waiting(6), image('later', { deadline: 620 }), image('much later', { deadline: 5000 })]
    expect(leastLevel(loadOf(images), exactly)).toMatchObject({ level: 2, until: 620 })
    expect(leastLevel(loadOf(waiting(1)), exactly).until).toBe(-Infinity)
  })

  test('a line with a drain target shares one level', () => {
    expect(leastLevel(loadOf(waiting(6), { drainMs: 1000 }), exactly).until).toBe(Infinity)
  })

  test('skips a level that is no faster than the one below it', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
    for (let i = 0; i < 50; i++) costs.observe({ bucket: 1, level: 2, ms: 100 })
    for (let i = 0; i < 50; i++) costs.observe({ bucket: 1, level: 0, ms: 100 })
    expect(leastLevel(loadOf(waiting(6), { costs }), exactly).level).toBe(3)
    for (let i = 0; i < 50; i++) costs.observe({ bucket: 1, level: hardest, ms: 100 })
    expect(leastLevel(loadOf(waiting(99), { costs }), exactly)).toMatchObject({ level: 4, holds: false })
  })

  test('a backlog beyond a round of batches drains within the target at the arrival rate', () => {
    const backlog = waiting(11, { deadline: 60_000 })
    const demand = (rest: Partial<Load>) =>
      leastLevel(loadOf(backlog, { drainMs: 1000, ...rest }), exactly).level
    expect(demand({})).toBe(0)
    expect(demand({ arrivalRate: 2 })).toBe(2)
    expect(demand({ arrivalRate: 15 })).toBe(hardest)
    expect(demand({ arrivalRate: 15, drainMs: Infinity })).toBe(0)
  })

  test('arrivals ask for a level that serves them before they have become a backlog', () => {
    const load = (arrivalRate: number) =>
      loadOf(waiting(1, { deadline: 60_000 }), { drainMs: 1000, arrivalRate })
    expect(leastLevel(load(5), exactly).level).toBe(0)
    expect(leastLevel(load(15), exactly).level).toBe(3)
  })
})

describe('for any line', () => {
  const anyImages = fc.array(
    fc.record({ deadline: fc.integer({ min: 1, max: 3000 }), maxPrune: fc.constantFrom(0, 0.3, 1) }),
    { minLength: 1, maxLength: 60 },
  )
  const anyCosts = fc
    .record({
      fixedMs: fc.integer({ min: 1, max: 60 }),
      rowMs: fc.integer({ min: 1, max: 60 }),
      buckets: fc.constantFrom([1], [1, 2, 4, 8, 16], [4, 8]),
    })
    .map(device)
  const named = (images: { deadline: number; maxPrune: number }[]) =>
    images.map((rest, i) => image(`${i}`, rest))

  test('the level meets every deadline that can be met, and the level below it does not', () => {
    /** Serves the line one by one in deadline order; true when everything that could ever be in time is. */
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
      fc.property(anyImages, (specs) => {
        const images = named(specs)
        const { level, holds } = leastLevel(loadOf(images), { now: 0, margin: 0 })
        expect(inTimeAt(images, level)).toBe(holds)
        if (level > 0) expect(inTimeAt(images, level - 1)).toBe(false)
        if (!holds) expect(level).toBe(hardest)
      }),
    )
  })

  test('more load never needs a lower level', () => {
    const more = fc.record({ images: anyImages, rate: fc.nat(50), fewerDevices: fc.boolean() })
    fc.assert(
      fc.property(anyImages, more, anyCosts, fc.nat(50), (specs, extra, costs, arrivalRate) => {
        const options = { now: 0, margin: 0.1 }
        const light = loadOf(named(specs), { costs, devices: 2, arrivalRate, drainMs: 500 })
        const heavy = loadOf(named([...specs, ...extra.images]), {
          costs,
          devices: extra.fewerDevices ? 1 : 2,
          arrivalRate: arrivalRate + extra.rate,
          drainMs: 500,
        })
        expect(leastLevel(heavy, options).level).toBeGreaterThanOrEqual(leastLevel(light, options).level)
      }),
    )
  })
})

describe('the controller', () => {
  const crowd = (now: number, count: number) =>
    loadOf(waiting(count, { deadline: now + 500 }), { drainMs: 1000 })

  test('a lone image is never pruned, however short its deadline', () => {
    const controller = new PruneController()
    expect(controller.decide(crowd(0, 1), 0).level).toBe(0)
    expect(controller.decide(loadOf(waiting(1, { deadline: 50 })), 0).level).toBe(0)
    expect(controller.level).toBe(0)
    expect(controller.decide(crowd(0, 9), 100).level).toBeGreaterThan(0)
    expect(controller.decide(loadOf(waiting(1, { deadline: 250 })), 200).level).toBe(0)
  })

  test('a burst is forgotten while only lone images come', () => {
    const controller = new PruneController({ holdMs: 1000 })
    controller.decide(crowd(0, 30), 0)
    controller.decide(crowd(999, 1), 999)
    expect(controller.level).toBe(hardest)
    controller.decide(crowd(1000, 1), 1000)
    expect(controller.level).toBe(0)
  })

  test('rises within one decision, as far as needed', () => {
    const controller = new PruneController()
    expect(controller.decide(crowd(0, 2), 0).level).toBe(0)
    expect(controller.decide(crowd(1, 30), 1)).toMatchObject({ level: hardest, holds: false })
  })

  test('falls after the lower level has held for a while, at once to where it holds', () => {
    const controller = new PruneController({ holdMs: 1000 })
    controller.decide(crowd(0, 30), 0)
    expect(controller.decide(crowd(500, 2), 500).level).toBe(hardest)
    expect(controller.decide(crowd(999, 2), 999).level).toBe(hardest)
    expect(controller.decide(crowd(1000, 2), 1000).level).toBe(0)
  })

  test('a level that holds only barely is not gone back to', () => {
    const controller = new PruneController({ margin: 0, recoveryMargin: 0.3, holdMs: 1000 })
    expect(controller.decide(crowd(0, 6), 0).level).toBe(2)
    for (let now = 100; now < 5000; now += 100) expect(controller.decide(crowd(now, 5), now).level).toBe(2)
    expect(controller.decide(crowd(6000, 3), 6000).level).toBe(0)
  })

  test('without a hold it follows the need both ways', () => {
    const controller = new PruneController({ holdMs: 0 })
    expect(controller.decide(crowd(0, 30), 0).level).toBe(hardest)
    expect(controller.decide(crowd(1, 2), 1).level).toBe(0)
  })
})
