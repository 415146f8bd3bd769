import { describe, expect, test } from 'vitest'
import type { Load } from './least-level.ts'
import type { Backlog } from './level.ts'
import type { QueuedImage } from './queue.ts'
import { device, image, leastLevel, levels, loadOf } from './scenario.fixture.ts'

const maxLevel = levels.length - 1

const waiting = (count: number, rest: Partial<QueuedImage<string>> = {}) =>
  Array.from({ length: count }, (_, i) => image(`${i}`, rest))

describe('the least level', () => {
  const exactly = { now: 0, margin: 0, drainMargin: 0 }

  test.each([
    ['all in time unpruned', 5, 500, 0],
    ['one late unpruned', 6, 500, 2],
    ['in time at the highest only', 12, 500, 5],
  ])('%s: %d images due in %d ms need level %d', (_, count, deadline, level) => {
    expect(leastLevel(loadOf(waiting(count, { deadline })), exactly)).toMatchObject({ level, feasible: true })
  })

  test('says when even the highest is not enough', () => {
    expect(leastLevel(loadOf(waiting(13)), exactly)).toMatchObject({ level: maxLevel, feasible: false })
  })

  test('more devices need less, those taken away need more', () => {
    const images = waiting(12)
    expect(leastLevel(loadOf(images, { devices: 3 }), exactly).level).toBe(0)
    expect(leastLevel(loadOf(waiting(5), { devices: 0.5 }), exactly).level).toBe(maxLevel)
  })

  test('counts the images of other lanes that are served first', () => {
    const ahead = levels.map((_, level) => (level === maxLevel ? 7 : 0))
    expect(leastLevel(loadOf(waiting(5), { ahead }), exactly).level).toBe(maxLevel)
  })

  test('knows that images which must not be pruned take their time', () => {
    const images = [...waiting(4, { maxPrune: 0 }), image('last', { deadline: 501 })]
    expect(leastLevel(loadOf(images), exactly).level).toBe(0)
    const sixth = image('sixth', { deadline: 502 })
    expect(leastLevel(loadOf([...images, sixth]), exactly).level).toBe(maxLevel)
  })

  test('an image that would be late even if it were alone asks for nothing, nor does one without a deadline', () => {
    expect(leastLevel(loadOf(waiting(3, { deadline: 39 })), exactly)).toMatchObject({
      level: 0,
      feasible: true,
    })
    expect(leastLevel(loadOf(waiting(1000, { deadline: undefined })), exactly).level).toBe(0)
  })

  test('says up to which deadline images need it', () => {
    const images = [...waiting(6), image('later', { deadline: 620 }), image('much later', { deadline: 5000 })]
    expect(leastLevel(loadOf(images), exactly)).toMatchObject({ level: 2, until: 620 })
    expect(leastLevel(loadOf(waiting(1)), exactly).until).toBe(-Infinity)
  })

  test('a queue with a drain target shares one level', () => {
    expect(leastLevel(loadOf(waiting(6), { drainMs: 1000 }), exactly).until).toBe(Infinity)
  })

  test('skips a level that is no faster than the one below it', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
    const takesNoLess = (level: number) => {
      for (let i = 0; i < 100; i++)
        for (const ran of [level, 0]) costs.observe({ bucket: 1, level: ran, ms: 100 })
    }
    takesNoLess(2)
    expect(leastLevel(loadOf(waiting(6), { costs }), exactly).level).toBe(3)
    takesNoLess(maxLevel)
    expect(leastLevel(loadOf(waiting(99), { costs }), exactly)).toMatchObject({ level: 4, feasible: false })
  })

  test('a backlog beyond a round of batches drains within the target at the arrival rate', () => {
    const backlog = waiting(11, { deadline: 60_000 })
    const demand = (rest: Partial<Load>) =>
      leastLevel(loadOf(backlog, { drainMs: 1000, ...rest }), exactly).level
    expect(demand({})).toBe(0)
    expect(demand({ arrivalRate: 2 })).toBe(2)
    expect(demand({ arrivalRate: 15 })).toBe(maxLevel)
    expect(demand({ arrivalRate: 15, drainMs: Infinity })).toBe(0)
  })

  test('arrivals ask for a level that serves them before they have become a backlog', () => {
    const load = (arrivalRate: number) =>
      loadOf(waiting(1, { deadline: 60_000 }), { drainMs: 1000, arrivalRate })
    expect(leastLevel(load(5), exactly).level).toBe(0)
    expect(leastLevel(load(15), exactly).level).toBe(3)
  })
})

describe('an upstream backlog', () => {
  const demand = (images: QueuedImage<string>[], upstream: Backlog[], rest: Partial<Load> = {}) =>
    leastLevel(loadOf(images, { upstream, ...rest }), { now: 0, margin: 0, drainMargin: 0 })
  const backlog = (images: number, deadline: number, most = maxLevel) => ({
    images,
    deadline,
    maxLevel: most,
  })

  test('that does not fit into its time is pruned just as far as needed, and only what is due by then', () => {
    expect(demand([], [backlog(100, 10_000)])).toMatchObject({ level: 0 })
    expect(demand([], [backlog(101, 10_000)])).toEqual({ level: 1, until: 10_000, feasible: true })
    expect(demand([], [backlog(250, 10_000)])).toEqual({ level: maxLevel, until: 10_000, feasible: true })
    expect(demand([], [backlog(251, 10_000)])).toMatchObject({ level: maxLevel, feasible: false })
  })

  test('waits for the images of the queue that are due before it, and not for those due later', () => {
    const queue = [...waiting(5, { deadline: 5000 }), image('later', { deadline: 20_000 })]
    expect(demand(queue, [backlog(95, 10_000)]).level).toBe(0)
    expect(demand(queue, [backlog(96, 10_000)])).toMatchObject({ level: 1, until: 10_000 })
  })

  test('keeps the images of the queue waiting that are due after it', () => {
    expect(demand(waiting(1, { deadline: 1000 }), [backlog(9, 900)]).level).toBe(0)
    expect(demand(waiting(2, { deadline: 1000 }), [backlog(9, 900)])).toMatchObject({ level: 1, until: 1000 })
    expect(demand(waiting(2, { deadline: 1000 }), [backlog(9, 1001)])).toMatchObject({ until: 1001 })
  })

  test('a later batch is not pruned because an earlier one is late', () => {
    const late = backlog(1000, 10_000)
    const onTime = backlog(450, 60_000)
    expect(demand([], [onTime, late], { expires: true })).toMatchObject({ level: maxLevel, until: 10_000 })
    // Callers are answered however late, so what is left of them at their deadline keeps others waiting.
    expect(demand([], [onTime, late]).until).toBe(60_000)
  })

  test('that is too late already is none of batch work and still in the way of callers', () => {
    const past = backlog(20, -1)
    expect(demand(waiting(5, { deadline: 500 }), [past], { expires: true }).level).toBe(0)
    expect(demand(waiting(5, { deadline: 1300 }), [past]).level).toBeGreaterThan(0)
  })

  test('without a deadline asks for nothing, but has to drain where the queue has to', () => {
    expect(demand(waiting(1), [backlog(1000, Infinity)]).level).toBe(0)
    const drains = { drainMs: 1000 }
    expect(demand(waiting(1), [backlog(10, Infinity)], drains).level).toBe(0)
    expect(demand(waiting(1), [backlog(12, Infinity)], drains).level).toBeGreaterThan(0)
  })

  test('is not hurried on to be done before it can have been decoded', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
    expect(demand([], [backlog(20, 1000)], { costs }).level).toBe(maxLevel)
    costs.observeDecoding(80)
    // Decoding takes 1.6 s, and 20 images take as long at level 2.
    expect(demand([], [backlog(20, 1000)], { costs })).toMatchObject({ level: 2, feasible: true })
    costs.observeDecoding(400)
    expect(demand([], [backlog(20, 1000)], { costs }).level).toBe(0)
  })
})
