import { beforeAll, describe, expect, test } from 'vitest'
import type { DeviceRun, RowGroup, RunRow } from '../engine/batch.ts'
import type { DevicePool } from '../engine/device-pool.ts'
import type { CaptionModel } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { DeviceTurns } from '../scheduling/device-turns.ts'
import type { QueuedImage } from '../scheduling/queue.ts'
import { stepsBetweenJoins } from '../scheduling/time-left.ts'
import { type BatchReport, Executor, type ExecutorOptions, leave, type StepReport } from './executor.ts'
import { taskRow } from './task-row.ts'
import { VirtualClock, VirtualDevice } from './virtual-device.fixture.ts'

const picture = {
  pixels: new Uint8Array(new SharedArrayBuffer(0)),
  shape: { count: 1, rows: 0, cols: 0 },
}
let model: CaptionModel
let measured: RunRow
beforeAll(async () => {
  model = await openModel(referenceOf('smolvlm').folder)
  measured = await taskRow(model, {}, [picture])
})
const [firstMs, stepMs] = [50, 10]
const levels = [1, 0.5].map((relativeCost, level) => ({ pruneRatio: level * 0.5, relativeCost }))
const sample = (bucket: number, level: number) => ({
  ...{ bucket, level, steps: 20, stepsMs: 20 * stepMs },
  ms: (level === 0 ? firstMs : firstMs / 2) + 20 * stepMs,
})
const samples = [1, 4].flatMap((bucket) => [0, 1].map((level) => sample(bucket, level)))

/** One device with four places, whose captions are as long as they may be. */
function scene(
  options: Partial<ExecutorOptions> = {},
  { clock = new VirtualClock(), fails }: { clock?: VirtualClock; fails?(group: RowGroup): boolean } = {},
) {
  const device = new VirtualDevice(clock, {
    firstMs: (group) => {
      if (fails?.(group)) throw Object.assign(new Error('no memory'), { retriable: false })
      return firstMs
    },
    stepMs: () => stepMs,
    lengthOf: () => Number.POSITIVE_INFINITY,
  })
  const runs: DeviceRun[] = []
  const noted = {
    name: 'virtual',
    run(run: DeviceRun) {
      runs.push(run)
      return device.run(run)
    },
  }
  const reports: BatchReport[] = []
  const steps: StepReport[] = []
  const executor = new Executor({
    model,
    measured,
    pool: { devices: [noted], maxBatch: 4 } as unknown as DevicePool,
    costs: new CostModel({ levels, buckets: [1, 2, 4], samples }),
    queueLimit: 100,
    interactiveTargetMs: 500,
    now: () => clock.now,
    onBatch: (report) => reports.push(report),
    onSteps: (report) => steps.push(report),
    ...options,
  })
  const seen: Record<string, { at: number; queueMs: number; inferenceMs: number; level: number }> = {}
  const failed: Record<string, unknown> = {}
  const rows: Record<string, RunRow> = {}
  const ask = (
    name: string,
    at: number,
    maxTokens: number,
    more: Partial<QueuedImage<unknown>> & { signal?: AbortSignal } = {},
  ) =>
    clock.at(at, () => {
      const row = {
        ...measured,
        settings: { ...measured.settings, maxTokens },
        leaves: new Int32Array(new SharedArrayBuffer(4)),
      }
      rows[name] = row
      const { signal, ...image } = more
      executor
        .run(
          { lane: 'interactive', enqueuedAt: at, deadline: at + 60_000, maxPrune: 1, ...image },
          { row },
          signal,
        )
        .then(
          ({ queueMs, inferenceMs, level }) => {
            seen[name] = { at: clock.now, queueMs, inferenceMs, level }
          },
          (error: unknown) => {
            failed[name] = error
          },
        )
    })
  return { clock, executor, ask, seen, failed, rows, runs, reports, steps }
}

const chunkMs = stepsBetweenJoins * stepMs

describe('a short caption that comes while a long one runs', () => {
  test('joins it at the next of its steps', async () => {
    const { clock, ask, seen, runs, reports, steps } = scene()
    ask('long', 0, 1000)
    ask('short', 1000, 9)
    await clock.play()
    expect(runs).toHaveLength(1)
    expect(seen.short!.at).toBeLessThanOrEqual(1000 + chunkMs + firstMs + chunkMs)
    expect(seen.short!.queueMs).toBeLessThanOrEqual(chunkMs)
    expect(seen.short!.queueMs + seen.short!.inferenceMs).toBeCloseTo(seen.short!.at - 1000)
    expect(seen.long!.at).toBeGreaterThan(999 * stepMs)
    expect(reports.map(({ joined, images }) => [joined, images.interactive])).toEqual([
      [true, 1],
      [false, 1],
    ])
    expect(new Set(steps.map((step) => step.rows))).toEqual(new Set([1, 2]))
  })

  test('waits for its end where none joins', async () => {
    const { clock, ask, seen, runs } = scene({ joining: false })
    ask('long', 0, 1000)
    ask('short', 1000, 9)
    await clock.play()
    expect(runs).toHaveLength(2)
    expect(seen.short!.at).toBeGreaterThan(seen.long!.at)
  })
})

test('places that become free are filled, callers first', async () => {
  const { clock, ask, seen } = scene()
  for (const index of [0, 1, 2, 3]) ask(`long ${index}`, 0, 200 + 100 * index)
  ask('of a batch', 100, 5, { lane: 'batch' })
  ask('of a caller', 200, 5)
  await clock.play()
  expect(seen['of a caller']!.at).toBeLessThan(seen['of a batch']!.at)
  // One place is left for callers.
  expect(seen['of a batch']!.at).toBeGreaterThan(seen['long 1']!.at)
  expect(seen['of a batch']!.at).toBeLessThan(seen['long 2']!.at)
  expect(Object.keys(seen)).toHaveLength(6)
})

test.each([
  [firstMs, [1, 1, 1]],
  [10 * firstMs, [3]],
])(
  'with a target of %i ms rows join in groups of %j, so that none waits long for them',
  async (interactiveTargetMs, groups) => {
    const { clock, ask, runs, reports } = scene({ interactiveTargetMs })
    ask('long', 0, 500)
    for (const index of [0, 1, 2]) ask(`late ${index}`, 100, 100)
    await clock.play()
    expect(runs).toHaveLength(1)
    const joined = reports.filter((report) => report.joined)
    expect(joined.map(({ images }) => images.interactive)).toEqual(groups)
  },
)

test('a row has the level of the group that it joined with', async () => {
  const { clock, ask, seen } = scene()
  ask('long', 0, 500)
  ask('pinned', 100, 30, { level: 1 })
  ask('spared', 600, 30, { level: 0, maxPrune: 0 })
  await clock.play()
  expect([seen.long!.level, seen.pinned!.level, seen.spared!.level]).toEqual([0, 1, 0])
})

test('a row that nobody waits for leaves its place to another', async () => {
  const { clock, ask, seen, rows, failed } = scene()
  const caller = new AbortController()
  for (const index of [0, 1, 2]) ask(`long ${index}`, 0, 1000)
  ask('left', 0, 1000, { signal: caller.signal })
  ask('next', 500, 5)
  clock.at(2000, () => caller.abort(new Error('left')))
  await clock.play()
  expect(failed.left).toMatchObject({ message: 'left' })
  expect(leave(rows.left!)).toBe(true)
  expect(seen.next!.queueMs).toBeGreaterThan(1400)
  expect(seen.next!.at).toBeLessThan(2000 + 2 * chunkMs + firstMs + chunkMs)
})

test('where a device fails, all rows that are on it do, and no other', async () => {
  const { clock, ask, seen, failed } = scene({}, { fails: ({ rows }) => rows.some(isBad) })
  const isBad = ({ settings }: RunRow) => settings.maxTokens === 13
  ask('short', 0, 5)
  ask('long', 0, 500)
  ask('bad', 1000, 13)
  ask('after', 2000, 5)
  await clock.play()
  expect(Object.keys(seen)).toEqual(['short', 'after'])
  expect(Object.keys(failed).sort()).toEqual(['bad', 'long'])
})

describe('of two models on one device', () => {
  test('none keeps it from the other by rows that join', async () => {
    const clock = new VirtualClock()
    const turns = new DeviceTurns()
    const [a, b] = [scene({ turns }, { clock }), scene({ turns }, { clock })]
    for (let index = 0; index < 60; index++) a.ask(`a ${index}`, 100 * index, 100)
    b.ask('b', 1000, 5)
    await clock.play()
    expect(Object.keys(a.seen)).toHaveLength(60)
    // Those that run make their captions to the end.
    expect(b.seen.b!.at).toBeLessThan(1000 + 100 * stepMs + 2 * chunkMs + 3 * firstMs)
    expect(a.runs.length).toBeGreaterThan(1)
  })
})

test.each([true, false])('many tokens are not predicted like few, where rows join: %s', async (joining) => {
  const { clock, ask, reports, executor } = scene({ joining })
  for (let index = 0; index < 30; index++) ask(`long ${index}`, 300 * index, 400)
  await clock.play()
  reports.length = 0
  for (const [index, maxTokens] of [20, 400].entries()) {
    ask(`alone ${index}`, clock.now + 1, maxTokens)
    await clock.play()
  }
  for (const { predictedMs, inferenceMs } of reports)
    expect(Math.abs(predictedMs / inferenceMs - 1)).toBeLessThan(0.25)
  const afterLong = async (waiting: number) => {
    for (let index = 0; index < 12; index++) ask(`waiting ${waiting} ${index}`, clock.now + 1, waiting)
    const decision = Promise.withResolvers<boolean>()
    clock.at(clock.now + 2, () =>
      decision.resolve(executor.admission({ deadline: clock.now + 3000, maxTokens: 20 }).admitted),
    )
    await clock.play()
    return decision.promise
  }
  expect(await afterLong(20)).toBe(true)
  expect(await afterLong(400)).toBe(false)
})
