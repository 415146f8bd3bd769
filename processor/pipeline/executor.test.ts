import { expect, test } from 'vitest'
import { blankPicture } from '../engine/batch.fixture.ts'
import { type DeviceRun, plainRow, type RunRow } from '../engine/batch.ts'
import type { DeviceResult } from '../engine/device.ts'
import type { DevicePool } from '../engine/device-pool.ts'
import { greedy } from '../models/generation.ts'
import { openModel } from '../models/open-model.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { DeviceTurns } from '../scheduling/device-turns.ts'
import type { Lane } from '../scheduling/level.ts'
import { Executor, groupOf, isTelling } from './executor.ts'

const levels = [
  { pruneRatio: 0, relativeCost: 1 },
  { pruneRatio: 0.8, relativeCost: 0.2 },
]
const samples = [
  { bucket: 1, level: 0, ms: 100 },
  { bucket: 1, level: 1, ms: 20 },
]

/** An executor of one idle device, with ten images upstream that any level may prune. */
async function executorAt(level?: number): Promise<Executor> {
  const model = await openModel(tinyBlip)
  return new Executor({
    model,
    measured: await plainRow(model, blankPicture(model.picture)),
    pool: { devices: [{}], maxBatch: 1 } as unknown as DevicePool,
    costs: new CostModel({ levels, buckets: [1], samples }),
    queueLimit: 100,
    interactiveTargetMs: 500,
    upstream: () => [{ deadline: 400, images: 10, maxLevel: 1 }],
    now: () => 0,
    level,
  })
}

test('an image is admitted where pruning can hold the load', async () => {
  expect((await executorAt()).admission({ deadline: 500 })).toEqual({ admitted: true })
})

test('a pinned level counts for what is upstream, which it keeps from being pruned', async () => {
  const pinned = await executorAt(0)
  expect(pinned.admission({ deadline: 500 })).toMatchObject({ admitted: false, reason: 'late' })
})

/** Two models on one device, which notes who runs. */
async function sharingExecutors() {
  const model = await openModel(tinyBlip)
  const turns = new DeviceTurns()
  const started: string[] = []
  let running = 0
  let most = 0
  const now = () => started.length
  const row = await plainRow(model, blankPicture(model.picture))
  const executors = ['a', 'b'].map((name) => {
    const run = async ({ rows }: DeviceRun) => {
      started.push(name)
      most = Math.max(most, ++running)
      await new Promise(setImmediate)
      running--
      return { rows: rows.map(() => ({ ids: [], ended: true })), inferenceMs: 1 }
    }
    return new Executor({
      ...{ model, turns, now, queueLimit: 100, interactiveTargetMs: 500 },
      measured: row,
      pool: { devices: [{ name: 'cpu', run }], maxBatch: 1 } as unknown as DevicePool,
      costs: new CostModel({ levels, buckets: [1], samples }),
    })
  })
  const ask = (executor: Executor, lane: Lane) =>
    executor.run({ lane, enqueuedAt: 0, maxPrune: 0, deadline: 500 }, { row })
  return { a: executors[0]!, b: executors[1]!, ask, started, most: () => most }
}

test('two models never run on a device at once, and callers go before batches', async () => {
  const { a, b, ask, started, most } = await sharingExecutors()
  const batches = Array.from({ length: 6 }, () => [ask(a, 'batch'), ask(b, 'batch')]).flat()
  const callers = Array.from({ length: 3 }, () => ask(b, 'interactive'))
  await Promise.all([...batches, ...callers])
  expect(most()).toBe(1)
  expect(started.slice(0, 4)).toEqual(['a', 'b', 'b', 'b'])
  expect(started.filter((name) => name === 'a')).toHaveLength(6)
  const last = started.slice(4)
  expect(Math.abs(last.slice(0, 8).filter((name) => name === 'a').length - 4)).toBeLessThanOrEqual(1)
})

test("an image is refused where another model's callers keep the device for too long", async () => {
  const admitted = async ({ others, own }: { others: number; own: number }) => {
    const { a, b, ask } = await sharingExecutors()
    const callers = Array.from({ length: others }, () => ask(a, 'interactive'))
    const before = Array.from({ length: own }, () => ask(b, 'interactive'))
    const decision = b.admission({ deadline: 502, maxPrune: 0 })
    await Promise.all([...callers, ...before])
    return [decision.admitted, b.admission({ deadline: 502, maxPrune: 0 }).admitted]
  }
  expect(await admitted({ others: 0, own: 3 })).toEqual([true, true])
  // Its run in hand, and then what waits there too.
  expect(await admitted({ others: 1, own: 3 })).toEqual([false, true])
  expect(await admitted({ others: 1, own: 2 })).toEqual([true, true])
  expect(await admitted({ others: 8, own: 2 })).toEqual([false, true])
})

test.each([
  ['equal', [1, 2, 3], ['1', '2', '3']],
  [
    'padded',
    [1, 2, 3, 4, 5, 100, 128, 129],
    ['1', '2', '4', '4', '8', '128', '128', '256'].map((most) => `up to ${most}`),
  ],
] as const)('rows with %s prompts share a batch by their length', (lengths, given, groups) => {
  const rows = given.map((length) => ({ prompt: { ids: new Array<number>(length).fill(1), places: [] } }))
  expect(rows.map((row) => groupOf({ lengths }, row))).toEqual(groups)
})

/** An executor of one device, whose runs the test ends. */
async function executorOf(runs: { rows: readonly RunRow[]; end: PromiseWithResolvers<DeviceResult> }[]) {
  const model = await openModel(tinyBlip)
  const device = {
    run({ rows }: DeviceRun) {
      const end = Promise.withResolvers<DeviceResult>()
      runs.push({ rows, end })
      return end.promise
    },
  }
  const measured = await plainRow(model, blankPicture(model.picture))
  const executor = new Executor({
    model,
    measured,
    pool: { devices: [device], maxBatch: 1 } as unknown as DevicePool,
    costs: new CostModel({ levels: levels.slice(0, 1), buckets: [1], samples: samples.slice(0, 1) }),
    queueLimit: 100,
    interactiveTargetMs: 500,
    now: () => 0,
  })
  const run = (signal?: AbortSignal) => {
    const row: RunRow = { ...measured, leaves: new Int32Array(new SharedArrayBuffer(4)) }
    const image = { lane: 'interactive', enqueuedAt: 0, maxPrune: 0 } as const
    return executor.run(image, { row }, signal)
  }
  return { executor, run }
}

test('a row that nobody waits for any more leaves its batch, and is not run again', async () => {
  const runs: Parameters<typeof executorOf>[0] = []
  const { run } = await executorOf(runs)
  const [caller, waiting] = [new AbortController(), new AbortController()]
  const left = run(caller.signal)
  const next = run(waiting.signal)
  caller.abort(new Error('left'))
  await expect(left).rejects.toThrow('left')
  expect(runs[0]!.rows[0]!.leaves![0]).toBe(1)
  // Its device fails: only the other one is run.
  runs[0]!.end.reject(Object.assign(new Error('crashed'), { retriable: true }))
  await expect.poll(() => runs.length).toBe(2)
  expect(runs[1]!.rows[0]!.leaves![0]).toBe(0)
  runs[1]!.end.resolve({ rows: [{ ids: [1], ended: true }], inferenceMs: 1 })
  expect((await next).row.ids).toEqual([1])
  expect(runs).toHaveLength(2)
})

test('an image that waits in the queue leaves it', async () => {
  const runs: Parameters<typeof executorOf>[0] = []
  const { executor, run } = await executorOf(runs)
  const caller = new AbortController()
  void run()
  const left = run(caller.signal)
  expect(executor.waiting()).toBe(1)
  caller.abort(new Error('left'))
  await expect(left).rejects.toThrow('left')
  expect(executor.waiting()).toBe(0)
})

test.each([
  ['captioner', {}, undefined, true],
  ['captioner', { maxTokens: 5 }, undefined, false],
  ['captioner', { noRepeatNgram: 2 }, 4, false],
  ['captioner', { beams: 2 }, 4, false],
  ['encoder-decoder', { maxTokens: 5 }, 4, true],
  ['encoder-decoder', { noRepeatNgram: 2 }, 4, true],
  ['encoder-decoder', { beams: 2 }, 4, false],
])('the time of a %s with %j is told of others where it is like them', (kind, settings, steps, telling) => {
  const generation = greedy(20)
  const rows = [{ settings: generation }, { settings: { ...generation, ...settings } }]
  const model = { generation, runner: { kind } as never }
  expect(isTelling(model, rows.slice(1), steps)).toBe(telling)
  expect(isTelling({ ...model, generation: rows[1]!.settings }, rows.slice(1), steps)).toBe(true)
})
