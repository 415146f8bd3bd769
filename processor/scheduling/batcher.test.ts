import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { Batcher, type BatcherOptions, batchSize } from './batcher.ts'
import { CostModel } from './cost-model.ts'
import { maxAllowedLevel } from './level.ts'
import type { QueuedImage } from './queue.ts'
import { device, image, levels, queueOf } from './scenario.fixture.ts'

const maxLevel = levels.length - 1
/** Nearly all of a run is its fixed cost: the more rows the better. */
const wide = device({ fixedMs: 80, rowMs: 2 })

const batcherOf = (
  images: QueuedImage<string>[],
  { costs = wide, ...rest }: Partial<BatcherOptions<string>> = {},
) => new Batcher({ queue: queueOf(images), costs, ...rest })

const several = (count: number, rest: Partial<QueuedImage<string>> = {}, prefix = '') =>
  Array.from({ length: count }, (_, i) => image(`${prefix}${i}`, rest))

const ids = (batch?: { images: QueuedImage<string>[] }) => batch?.images.map(({ id }) => id)

test('nothing waits: no batch', () => {
  expect(batcherOf([]).nextBatch(0)).toBeUndefined()
})

test('a lone image runs at once, unpruned, in the smallest batch, even when it will be late', () => {
  const batch = batcherOf([image('a', { deadline: 1 })]).nextBatch(0)
  expect(batch).toMatchObject({ lane: 'interactive', bucket: 1, level: 0, predictedMs: 82 })
})

test('takes images in the order of their deadlines and leaves the rest', () => {
  const images = several(40).map((each, i) => ({ ...each, deadline: 10_000 - i }))
  const queue = queueOf(images)
  const batcher = new Batcher({ queue, costs: wide })
  expect(ids(batcher.nextBatch(0))).toEqual(
    images
      .slice(-16)
      .map(({ id }) => id)
      .reverse(),
  )
  expect(queue.size()).toBe(24)
})

test('what is late already lets those pass that can be in time, but not for ever', () => {
  const late = several(20, { deadline: -10 })
  const intime = several(16).map((each) => ({ ...each, id: `in time ${each.id}` }))
  const batcher = batcherOf([...late, ...intime])
  expect(ids(batcher.nextBatch(0))?.every((id) => id.startsWith('in time'))).toBe(true)
  const starved = batcherOf([...late, ...intime.map((each) => ({ ...each, deadline: 9_000 }))])
  expect(ids(starved.nextBatch(6_000))?.some((id) => id.startsWith('in time'))).toBe(false)
})

test('within a lane an earlier deadline is never served later', () => {
  const anyDeadlines = fc.array(fc.integer({ min: -100, max: 2000 }), { minLength: 1, maxLength: 80 })
  fc.assert(
    fc.property(
      anyDeadlines,
      fc.constantFrom('interactive' as const, 'batch' as const),
      (deadlines, lane) => {
        const batcher = batcherOf(deadlines.map((deadline, i) => image(`${i}`, { deadline, lane })))
        const served: number[] = []
        for (let batch = batcher.nextBatch(0); batch; batch = batcher.nextBatch(0))
          served.push(...batch.images.map(({ deadline }) => deadline!))
        const soonest = wide.runTimes(levels.length - 1)[1]!
        const turnOf = (deadline: number) =>
          lane === 'interactive' && deadline < soonest ? deadline + 5000 : deadline
        expect(served).toEqual(deadlines.toSorted((a, b) => turnOf(a) - turnOf(b)))
      },
    ),
    { seed: 1, numRuns: 100 },
  )
})

test('never mixes groups, and serves the head whatever its group', () => {
  const images = [
    ...several(3, { group: 'long prompt', deadline: 400 }, 'long'),
    ...several(3, { group: 'no prompt', deadline: 401 }, 'none'),
  ]
  const batcher = batcherOf(images)
  expect(ids(batcher.nextBatch(0))).toEqual(['long0', 'long1', 'long2'])
  expect(ids(batcher.nextBatch(0))).toEqual(['none0', 'none1', 'none2'])
})

test('a batch is small enough for the deadline of its head', () => {
  const costs = device({ fixedMs: 10, rowMs: 10 })
  const images = [image('head', { deadline: 60 }), ...several(15, { deadline: 5000 })]
  expect(batcherOf(images, { costs }).nextBatch(0)).toMatchObject({ bucket: 4, level: 0 })
})

test('a head that is late anyway does not make the batch small for those who are not', () => {
  const images = [image('late', { deadline: 1 }), ...several(15, { deadline: 5000 })]
  expect(batcherOf(images).nextBatch(0)).toMatchObject({ bucket: 16, level: 0 })
})

test('an infeasible queue is served at the best rate', () => {
  const costs = device({ fixedMs: 30, rowMs: 10 })
  const batch = batcherOf(several(200, { deadline: 60 }), { costs }).nextBatch(0)
  expect(batch).toMatchObject({ bucket: 16, level: maxLevel })
})

describe('under pressure', () => {
  const costs = device({ fixedMs: 60, rowMs: 20 })

  test('the level rises with the first batch', () => {
    expect(batcherOf(several(40), { costs }).nextBatch(0)?.level).toBe(maxLevel)
  })

  test('a head that must not be pruned goes first, unpruned, with its like; those that bear more take only free rows', () => {
    const images = [
      ...several(3, { maxPrune: 0, deadline: 450 }, 'pure'),
      ...several(40, { deadline: 460 }, 'hardy'),
    ]
    const batcher = batcherOf(images, { costs })
    const first = batcher.nextBatch(0)
    expect(first).toMatchObject({ level: 0, bucket: 4 })
    expect(ids(first)).toEqual(['pure0', 'pure1', 'pure2', 'hardy0'])
    expect(batcher.nextBatch(0)).toMatchObject({ level: maxLevel })
  })

  test('an image in the middle that must not be pruned is left for its own turn', () => {
    const images = several(40).map((each, i) => ({ ...each, maxPrune: i === 3 ? 0 : 1 }))
    const batcher = batcherOf(images, { costs })
    expect(ids(batcher.nextBatch(0))).not.toContain('3')
    expect(batcher.nextBatch(0)).toMatchObject({ level: 0 })
  })

  test('a pinned level is kept, and nobody is drawn into it', () => {
    const pinned = image('pinned', { level: 4, deadline: 1 })
    const batcher = batcherOf([pinned, ...several(3, { deadline: 60_000 })])
    const first = batcher.nextBatch(0)
    expect(first).toMatchObject({ level: 4 })
    expect(ids(first)).toEqual(['pinned'])
    expect(batcher.nextBatch(0)).toMatchObject({ level: 0 })
  })

  test('a pinned image is not drawn into a batch of another level, not even for a free row', () => {
    const images = [...several(3), image('pinned', { level: 4 }), image('work', { lane: 'batch', level: 4 })]
    expect(ids(batcherOf(images).nextBatch(0))).toEqual(['0', '1', '2'])
  })
})

describe('the batch lane', () => {
  const work = (count: number, rest: Partial<QueuedImage<string>> = {}) =>
    several(count, { lane: 'batch', deadline: 86_400_000, ...rest }, 'work')

  test('fills an interactive batch, unpruned', () => {
    const batch = batcherOf([image('a'), ...work(50)]).nextBatch(0)
    expect(batch).toMatchObject({ lane: 'interactive', level: 0, bucket: 16 })
    expect(ids(batch)?.slice(0, 2)).toEqual(['a', 'work0'])
  })

  test('fills no further than the interactive image has time', () => {
    const costs = device({ fixedMs: 20, rowMs: 10 })
    const images = [image('a', { deadline: 70 }), ...work(50)]
    expect(batcherOf(images, { costs }).nextBatch(0)).toMatchObject({ bucket: 4, level: 0 })
  })

  test('leaves room for an interactive image that comes in meanwhile', () => {
    const costs = device({ fixedMs: 40, rowMs: 20 })
    expect(batcherOf(work(50), { costs }).nextBatch(0)).toMatchObject({ lane: 'batch', bucket: 16 })
    expect(batcherOf(work(50), { costs, interactiveTargetMs: 300 }).nextBatch(0)).toMatchObject({ bucket: 8 })
    expect(batcherOf(work(50), { costs, interactiveTargetMs: 270 }).nextBatch(0)).toMatchObject({ bucket: 4 })
    expect(batcherOf(work(50), { costs, interactiveTargetMs: 10 }).nextBatch(0)).toMatchObject({ bucket: 1 })
    const beside = [image('a', { deadline: 60_000 }), ...work(50)]
    expect(batcherOf(beside, { costs, interactiveTargetMs: 270 }).nextBatch(0)).toMatchObject({ bucket: 4 })
  })

  test('leaves more room the more interactive images come', () => {
    const costs = device({ fixedMs: 40, rowMs: 20 })
    const queue = queueOf(work(50))
    const batcher = new Batcher({ queue, costs })
    for (let now = 0; now < 10_000; now += 20) {
      queue.add(image(`${now}`), now)
      queue.remove(`${now}`)
    }
    expect(batcher.nextBatch(10_000)).toMatchObject({ lane: 'batch', bucket: 8 })
  })

  test('takes only rows that would be padding while interactive images are left waiting', () => {
    const costs = device({ fixedMs: 40, rowMs: 10 })
    const images = [
      ...several(3, { group: 'a', deadline: 4000 }, 'a'),
      ...several(3, { group: 'b', deadline: 5000 }, 'b'),
      ...work(50, { group: 'a' }),
    ]
    expect(ids(batcherOf(images, { costs }).nextBatch(0))).toEqual(['a0', 'a1', 'a2', 'work0'])
  })

  test('that is on time is never pruned, nor drawn into a pruned batch', () => {
    const costs = device({ fixedMs: 40, rowMs: 20 })
    const batcher = batcherOf([...several(36), ...work(5)], { costs })
    for (let batch = batcher.nextBatch(0); batch; batch = batcher.nextBatch(0))
      if (batch.level > 0) expect(batch.images.every(({ lane }) => lane === 'interactive')).toBe(true)
  })

  test('that would miss its window is pruned as hard as it takes, and only what would miss it', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [4] })
    const noHurry = image('no hurry', { lane: 'batch', deadline: 9000 })
    const tight = batcherOf([...work(3, { deadline: 380 }), noHurry], { costs }).nextBatch(0)
    expect(tight).toMatchObject({ lane: 'batch', level: 2 })
    expect(ids(tight)).toEqual(['work0', 'work1', 'work2'])
    const onTime = batcherOf([...work(3, { deadline: 450 }), noHurry], { costs }).nextBatch(0)
    expect(onTime).toMatchObject({ lane: 'batch', level: 0 })
    expect(ids(onTime)).toContain('no hurry')
  })

  test('that is about to miss its window joins an interactive batch that is pruned anyway', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [4] })
    const images = [
      ...several(3, { deadline: 380 }),
      ...work(1, { deadline: 500 }),
      image('no hurry', { lane: 'batch', deadline: 9000 }),
    ]
    const batch = batcherOf(images, { costs }).nextBatch(0)
    expect(batch).toMatchObject({ lane: 'interactive', level: 2 })
    expect(ids(batch)).toEqual(['0', '1', '2', 'work0'])
  })

  test('is not pruned a batch longer than it takes', () => {
    const costs = device({ fixedMs: 0, rowMs: 100, buckets: [1] })
    const batcher = batcherOf(work(4, { deadline: 200 }), { costs })
    expect([0, 1, 2, 3].map(() => batcher.nextBatch(0)?.level)).toEqual([5, 4, 1, 0])
  })

  test('without a deadline is never pruned', () => {
    const costs = device({ fixedMs: 40, rowMs: 20 })
    expect(batcherOf(work(1000, { deadline: undefined }), { costs }).nextBatch(1e9)).toMatchObject({
      level: 0,
    })
  })

  test('gets its run however long the interactive queue is', () => {
    const costs = device({ fixedMs: 40, rowMs: 20 })
    const batcher = batcherOf([...several(2000), ...work(90)], { costs, batchIntervalMs: 50_000 })
    const lanes = (from: number, to: number) => {
      const seen = new Set<string | undefined>()
      for (let now = from; now < to; now += 1000) seen.add(batcher.nextBatch(now)?.lane)
      return [...seen]
    }
    expect(lanes(0, 50_000)).toEqual(['interactive'])
    expect(batcher.nextBatch(50_000)).toMatchObject({ lane: 'batch', bucket: 1, level: 0 })
    expect(lanes(51_000, 101_000)).toEqual(['interactive'])
    expect(lanes(101_000, 102_000)).toEqual(['batch'])
  })
})

describe('upstream backlog', () => {
  const costs = device({ fixedMs: 0, rowMs: 100, buckets: [4] })
  const work = several(4, { lane: 'batch', deadline: 10_000 }, 'work')
  const upstreamBatch = (images: number, deadline: number): Partial<BatcherOptions<string>> => ({
    costs,
    upstream: (lane) => (lane === 'batch' ? [{ deadline, images, maxLevel }] : []),
  })

  test('a batch is pruned when the lines that come later do not fit into its time, and not before', () => {
    expect(batcherOf(work, upstreamBatch(80, 10_000)).nextBatch(0)?.level).toBe(0)
    expect(batcherOf(work, upstreamBatch(92, 10_000)).nextBatch(0)?.level).toBe(1)
  })

  test('a batch that is on time is not pruned for one that is due sooner', () => {
    expect(batcherOf(work, upstreamBatch(84, 9000)).nextBatch(0)?.level).toBe(0)
  })

  test('a lone image is pruned when a crowd is on its way', () => {
    const crowd = [{ deadline: 500, images: 100, maxLevel }]
    const upstream = (lane: string) => (lane === 'interactive' ? crowd : [])
    expect(batcherOf([image('a')], { upstream }).nextBatch(0)?.level).toBeGreaterThan(0)
    expect(batcherOf([image('a')]).nextBatch(0)?.level).toBe(0)
  })
})

test('prefers a higher level in a large batch to small batches that save the head only', () => {
  const costs = device({ fixedMs: 60, rowMs: 30 })
  // Unpruned, four runs of four would do for the queue but leave no time after one of two for the head.
  const images = [image('head', { deadline: 140 }), ...several(11, { deadline: 450 })]
  const batcher = batcherOf(images, { costs })
  const late: string[] = []
  let now = 0
  for (let batch = batcher.nextBatch(now); batch; batch = batcher.nextBatch(now)) {
    now += batch.predictedMs
    for (const { id, deadline } of batch.images) if (now > deadline!) late.push(id)
  }
  expect(late).toEqual([])
})

test('whatever waits: allowed levels, one group, bounded size, and every image served exactly once', () => {
  const anyImage = fc.record({
    lane: fc.constantFrom('interactive' as const, 'batch' as const),
    deadline: fc.option(fc.integer({ min: -100, max: 3000 }), { nil: undefined }),
    maxPrune: fc.constantFrom(0, 0.2, 0.5, 1),
    level: fc.option(fc.nat(maxLevel), { nil: undefined, freq: 8 }),
    group: fc.constantFrom('a', 'b'),
  })
  const anyBacklog = fc.record({
    deadline: fc.integer({ min: -100, max: 5000 }),
    images: fc.nat(200),
    maxLevel: fc.nat(maxLevel),
  })
  const anyBacklogs = fc.array(anyBacklog, { maxLength: 4 })
  const anyUpstream = fc.record({ interactive: anyBacklogs, batch: anyBacklogs })
  const anyCosts = fc.record({ fixedMs: fc.nat(60), rowMs: fc.integer({ min: 1, max: 40 }) }).map(device)
  fc.assert(
    fc.property(fc.array(anyImage, { maxLength: 120 }), anyCosts, anyUpstream, (specs, costs, upstream) => {
      const images = specs.map((rest, i) => image(`${i}`, rest))
      const batcher = batcherOf(images, { costs, upstream: (lane) => upstream[lane] })
      const served: string[] = []
      let now = 0
      for (let batch = batcher.nextBatch(now); batch; batch = batcher.nextBatch(now)) {
        expect(batch.images.length).toBeGreaterThan(0)
        expect(batch.images.length).toBeLessThanOrEqual(batch.bucket)
        expect(costs.buckets).toContain(batch.bucket)
        expect(new Set(batch.images.map(({ group }) => group)).size).toBe(1)
        for (const { maxPrune, deadline, level } of batch.images) {
          if (batch.level > 0) expect(levels[batch.level]!.pruneRatio).toBeLessThanOrEqual(maxPrune)
          if (deadline === undefined && level === undefined) expect(batch.level).toBe(0)
          if (level !== undefined)
            expect(batch.level).toBe(Math.min(level, maxAllowedLevel(levels, maxPrune)))
        }
        served.push(...batch.images.map(({ id }) => id))
        now += batch.predictedMs
      }
      expect(served.toSorted()).toEqual(images.map(({ id }) => id).toSorted())
    }),
    { seed: 1, numRuns: 200 },
  )
})

const whole = device({ fixedMs: 30, rowMs: 5 })
const linear = device({ fixedMs: 0.1, rowMs: 20 })
const fits = () => true

test('takes all in one run where a larger run costs little more', () => {
  expect(batchSize(whole, { images: 100, level: 0, fits })).toBe(16)
  expect(batchSize(whole, { images: 3, level: 0, fits })).toBe(4)
})

test('does not pad where rows cost what they are, nor batch where that gains nothing', () => {
  expect(batchSize(device({ fixedMs: 20, rowMs: 20 }), { images: 5, level: 0, fits })).toBe(4)
  expect(batchSize(linear, { images: 16, level: 0, fits })).toBe(1)
})

test('stays within what fits, and is the least allowed when nothing does', () => {
  expect(batchSize(whole, { images: 16, level: 0, fits: (ms) => ms <= 60 })).toBe(4)
  expect(batchSize(whole, { images: 16, level: 5, fits: (ms) => ms <= 60 })).toBe(8)
  expect(batchSize(whole, { images: 16, level: 0, fits: () => false })).toBe(1)
  expect(batchSize(whole, { images: 16, level: 0, fits: () => false, smallest: 4 })).toBe(4)
})

test('grows from the least allowed only where that gains', () => {
  expect(batchSize(whole, { images: 16, level: 0, fits, smallest: 4 })).toBe(16)
  expect(batchSize(linear, { images: 16, level: 0, fits, smallest: 4 })).toBe(4)
})

test('a batch is predicted by the size of its rows', () => {
  const large = several(4, { size: 3 })
  expect(batcherOf([image('a', { size: 3 })]).nextBatch(0)?.predictedMs).toBeCloseTo(3 * 82)
  expect(batcherOf([...large.slice(1), image('b', { size: 1 })]).nextBatch(0)?.predictedMs).toBeCloseTo(
    2.5 * 88,
  )
  // Five times as long, a full batch leaves no room for the interactive images that come in meanwhile.
  const work = (size?: number) => several(50, { lane: 'batch', deadline: undefined, size })
  expect(batcherOf(work()).nextBatch(0)).toMatchObject({ bucket: 16 })
  expect(batcherOf(work(5)).nextBatch(0)?.bucket).toBeLessThan(16)
})

test("a batch counts on its share of the devices beside other models' batches", () => {
  // 16 lines that take 112 ms of a device unpruned, due in 150 ms.
  const lines = several(16, { lane: 'batch', deadline: 150 }, 'line')
  const costs = device({ fixedMs: 10, rowMs: 6 })
  const levelOf = (others: number) =>
    batcherOf(lines, { costs, otherBatches: () => others }).nextBatch(0)!.level
  expect(levelOf(0)).toBe(0)
  expect(levelOf(1)).toBeGreaterThan(0)
})

describe('rows that join a batch', () => {
  const places = (free: number, holdUpMs = Number.POSITIVE_INFINITY) => ({ free, holdUpMs })
  const continuous = (images: QueuedImage<string>[], options: Partial<BatcherOptions<string>> = {}) =>
    batcherOf(images, { continuous: true, ...options })

  test.each([1, 3, 16])('are no more than %i free places', (free) => {
    const joined = continuous(several(40)).joining(0, places(free))
    expect(joined!.images.length).toBeLessThanOrEqual(free)
    expect(joined!.images.length).toBeGreaterThanOrEqual(Math.min(free, 3))
  })

  test('are those of callers first', () => {
    const batcher = continuous([...several(3, { lane: 'batch', deadline: 1 }, 'line'), image('caller')])
    expect(ids(batcher.joining(0, places(1)))).toEqual(['caller'])
  })

  test('are few where many hold those up that run, but never none', () => {
    const joined = (holdUpMs: number) =>
      continuous(several(16), { costs: device({ fixedMs: 10, rowMs: 20 }) }).joining(0, places(16, holdUpMs))!
    expect(joined(1).images).toHaveLength(1)
    expect(joined(95).images).toHaveLength(4)
  })

  test('have a level of their own', () => {
    const joined = continuous([image('pinned', { level: 3 })]).joining(0, places(4))
    expect(joined).toMatchObject({ level: 3, bucket: 1 })
  })

  test('are those of batches when enough places are free, but for one that callers have', () => {
    const lines = several(20, { lane: 'batch', deadline: 1e6 }, 'line')
    expect(continuous(lines).joining(0, places(3))).toBeUndefined()
    expect(continuous(lines).joining(0, places(4))!.images).toHaveLength(4)
    expect(ids(continuous(lines).nextBatch(0))).toHaveLength(16)
    const busy = continuous([image('caller'), ...lines])
    busy.nextBatch(0)
    expect(busy.joining(20, places(16))!.images.length).toBeLessThanOrEqual(15)
  })

  test('are those of batches now and then, however many callers there are', () => {
    const queue = queueOf(several(3, { lane: 'batch', deadline: 1e6 }, 'line'))
    const batcher = new Batcher({ queue, costs: wide, continuous: true, batchIntervalMs: 5000 })
    const joined: string[] = []
    for (let now = 0; now < 12_000; now += 100) {
      queue.add(image(`caller ${now}`, { enqueuedAt: now, deadline: now + 500 }), now)
      joined.push(...(ids(batcher.joining(now, places(1))) ?? []))
    }
    expect(joined.filter((id) => id.startsWith('line'))).toHaveLength(2)
    expect(joined).toHaveLength(120)
  })

  test('leave callers what they need while a caption of a batch is long', () => {
    const samples = [{ bucket: 1, level: 0, ms: 10_050, steps: 1000, stepsMs: 10_000 }]
    const costs = new CostModel({ levels: levels.slice(0, 1), samples })
    const lines = several(20, { lane: 'batch', deadline: 1e9 }, 'line')
    const queue = () => queueOf([image('caller', { enqueuedAt: 0 }), ...lines], { levels: costs.levels })
    const joining = new Batcher({ queue: queue(), costs, continuous: true, interactiveTargetMs: 5000 })
    joining.nextBatch(0)
    expect(joining.joining(10, places(15))!.images.length).toBeGreaterThan(4)
  })
})
