import { beforeAll, describe, expect, it } from 'vitest'
import type { RunPicture } from '../engine/batch.ts'
import type { DevicePool } from '../engine/device-pool.ts'
import type { PruneLevel } from '../models/levels.ts'
import { type CaptionModel, pictureTokens } from '../models/model.ts'
import { openModel } from '../models/open-model.ts'
import { referenceOf } from '../models/reference.fixture.ts'
import { CostModel } from '../scheduling/cost-model.ts'
import { Executor, type RunResult } from './executor.ts'
import { Pipeline } from './pipeline.ts'
import { taskRow } from './task-row.ts'
import { VirtualClock, VirtualDevice } from './virtual-device.fixture.ts'

const reference = referenceOf('smolvlm')
const buckets = [1, 2, 4, 8]
let model: CaptionModel
beforeAll(async () => {
  model = await openModel(reference.folder)
})

/** A picture in so many tiles and the whole. */
const tiled = (rows: number, cols: number): RunPicture => ({
  pixels: new Uint8Array(new SharedArrayBuffer(0)),
  shape: { count: rows * cols + 1, rows, cols },
})
const large = tiled(4, 4)
const small = tiled(2, 2)

/** Time of one run: the encoder's follows the level, that of 20 steps of text the batch. */
function runOf(count: number, level: number) {
  const stepsMs = 20 * (1 + 0.05 * count)
  const flops = model.levels[level]!.flopShare
  return { ms: 5 + 40 * count * flops + stepsMs, steps: 20, stepsMs }
}

interface Arrival {
  at: number
  lane: 'interactive' | 'batch'
  picture: RunPicture
}

type Outcome = Arrival & { retryAfterSeconds?: number; doneAt?: number; result?: RunResult }

const targetMs = 1500

/** Plays arrivals against one device on a virtual clock. */
async function play(
  arrivals: Arrival[],
  joining: boolean,
): Promise<{ outcomes: Outcome[]; levelAt(ms: number): number }> {
  const clock = new VirtualClock()
  const measured = await taskRow(model, {}, [large])
  const rows = new Map([
    [large, measured],
    [small, await taskRow(model, {}, [small])],
  ])
  const seen: { at: number; level: number }[] = []
  const device = new VirtualDevice(clock, {
    firstMs({ rows, schedule }) {
      const level = model.levels.indexOf(schedule as PruneLevel)
      const size =
        rows.reduce((sum, row) => sum + row.prompt.ids.length, 0) / rows.length / measured.prompt.ids.length
      const { ms, stepsMs } = runOf(rows.length * size, level)
      return ms - stepsMs
    },
    stepMs: (count) => runOf(count, 0).stepsMs / 20,
    lengthOf: () => 21,
  })
  const levels = model.levels.map(({ pruneRatio, flopShare }) => ({ pruneRatio, relativeCost: flopShare }))
  const samples = levels.flatMap((_, level) =>
    buckets.map((bucket) => ({ bucket, level, ...runOf(bucket, level) })),
  )
  const executor = new Executor({
    ...{ model, measured, joining },
    pool: { devices: [device], maxBatch: 8 } as unknown as DevicePool,
    costs: new CostModel({ levels, buckets, samples }),
    queueLimit: 1000,
    interactiveTargetMs: targetMs,
    now: () => clock.now,
  })
  const outcomes: Outcome[] = []
  const arrive = (arrival: Arrival) => {
    const { now } = clock
    const outcome: Outcome = { ...arrival }
    outcomes.push(outcome)
    const { lane, picture } = arrival
    const deadline = lane === 'interactive' ? now + targetMs : now + 3_600_000
    const decision = lane === 'interactive' ? executor.admission({ deadline }) : { admitted: true as const }
    if (!decision.admitted) {
      outcome.retryAfterSeconds = decision.retryAfterSeconds
      return
    }
    const row = rows.get(picture)!
    void executor.run({ lane, enqueuedAt: now, deadline, maxPrune: 1 }, { row }).then((result) => {
      outcome.result = result
      outcome.doneAt = clock.now
    })
  }
  for (const arrival of arrivals) clock.at(arrival.at, () => arrive(arrival))
  await clock.play(() => seen.push({ at: clock.now, level: executor.level('interactive') }))
  return { outcomes, levelAt: (ms) => seen.findLast(({ at }) => at <= ms)?.level ?? 0 }
}

/** Interactive arrivals, evenly from one time to another. */
const arrivalsOf = (perSecond: number, from: number, to: number): Arrival[] =>
  Array.from({ length: Math.round((perSecond * (to - from)) / 1000) }, (_, i) => ({
    at: from + (1000 * i) / perSecond,
    lane: 'interactive',
    picture: i % 3 === 0 ? small : large,
  }))

describe.each([true, false])('SmolVLM under load, with rows that join: %s', (joining) => {
  it('prunes while a burst lasts that it could not serve else, and no longer', async () => {
    const calm = [...arrivalsOf(4, 0, 5000), ...arrivalsOf(4, 15_000, 25_000)]
    const { outcomes, levelAt } = await play([...calm, ...arrivalsOf(45, 5000, 15_000)], joining)
    expect(levelAt(4900)).toBe(0)
    expect(levelAt(14_000)).toBeGreaterThan(0)
    expect(levelAt(25_000)).toBe(0)
    const served = outcomes.filter(({ result }) => result)
    const late = served.filter(({ at, doneAt }) => doneAt! - at > 1.1 * targetMs)
    expect(late).toEqual([])
    expect(served.length / outcomes.length).toBeGreaterThan(0.8)
    expect(outcomes.every(({ result, retryAfterSeconds }) => result || retryAfterSeconds! >= 1)).toBe(true)
  })

  it('turns away what it cannot serve in time at any level, and says when to come again', async () => {
    const { outcomes } = await play(arrivalsOf(120, 0, 4000), joining)
    const rejected = outcomes.filter(({ result }) => !result)
    expect(rejected.length).toBeGreaterThan(outcomes.length / 4)
    for (const { retryAfterSeconds } of rejected) expect(retryAfterSeconds).toBeGreaterThanOrEqual(1)
    const late = outcomes.filter(({ at, doneAt }) => doneAt !== undefined && doneAt - at > 1.1 * targetMs)
    expect(late).toEqual([])
  })

  it('lets no batch starve, whatever the sizes of pictures', async () => {
    const lines = Array.from(
      { length: 40 },
      (_, i): Arrival => ({
        at: 0,
        lane: 'batch',
        picture: i % 2 === 0 ? small : large,
      }),
    )
    const { outcomes } = await play([...lines, ...arrivalsOf(8, 0, 10_000)], joining)
    expect(outcomes.filter(({ result }) => !result)).toEqual([])
    const late = outcomes.filter(
      ({ lane, at, doneAt }) => lane === 'interactive' && doneAt! - at > 1.1 * targetMs,
    )
    expect(late).toEqual([])
  })
})

it('tells of each picture what entered and what left the encoder', async () => {
  const cpu = { name: 'cpu', provider: 'cpu', deviceId: 0 } as const
  const pipeline = await Pipeline.start({
    ...{ model, devices: [cpu], intraOpThreads: 1, buckets: [1, 2, 4], queueLimit: 100 },
    interactiveTargetMs: 60_000,
  })
  try {
    const views = Object.values(reference.views)
      .filter(({ options }) => Object.keys(options).length === 0)
      .slice(0, 3)
    const levels = model.levels.map((_, level) => level)
    for (const { turbine, view, level } of await Promise.all(
      views.flatMap((view) =>
        levels.map(async (level) => {
          const image = reference.picture(view)
          return { ...(await pipeline.caption({ image, lane: 'batch', level, maxTokens: 2 })), view, level }
        }),
      ),
    )) {
      const { tokensIn, tokensOut } = pictureTokens(model, [view.shape], level)
      expect(turbine).toMatchObject({ prune_level: level, tokens_in: tokensIn, tokens_out: tokensOut })
      expect(tokensIn).toBe(64 * view.shape.count)
      const tiles = view.shape.count
      expect(turbine.prune_ratio).toBeCloseTo((tokensIn - tokensOut) / tiles / 63)
    }
  } finally {
    await pipeline.close()
  }
})
