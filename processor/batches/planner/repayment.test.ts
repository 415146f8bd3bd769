import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { isFinal } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { decodeShardJob } from '../../../edge/contract/shard.ts'
import { idsOf, manifestOf, PlannerWorld, start, type TestPlanner } from './planner.fixture.ts'
import { RepayWindow } from './repayment.ts'
import { dueAt } from './status.ts'

function repayingWorld(): PlannerWorld {
  const world = new PlannerWorld()
  world.repay = true
  return world
}

/** Processors and a planner work for a moment. */
async function step(world: PlannerWorld, planner: TestPlanner, shards = 8): Promise<void> {
  await world.process(shards)
  world.deliver(planner)
  await world.clock.advance(500)
}

/** Lets a batch run until its lines are being repaid. */
async function untilRepaying(world: PlannerWorld, planner: TestPlanner): Promise<void> {
  const isRepaying = () => world.jobs.some((record) => decodeShardJob(record).repay)
  while (!isRepaying()) {
    await world.process(1)
    world.deliver(planner)
    await world.clock.advance(1_000)
  }
}

async function outputOf(world: PlannerWorld, id: string) {
  const { output_file_id } = await world.batch(id)
  return (await world.fileLines(output_file_id)).map(({ custom_id, response }) => ({
    custom_id,
    repaid: response!.body.turbine.repaid ?? false,
    level: response!.body.turbine.prune_level,
  }))
}

const repaidCount = (lines: { repaid: boolean }[]) => lines.filter(({ repaid }) => repaid).length

test('pruned lines are captioned again when all are done, and say so', async () => {
  const world = repayingWorld()
  world.processors.prunes = (customId) => customId.endsWith('7')
  const id = await world.createBatch(manifestOf(2000))
  const batch = await world.finish(start(world), id)
  expect(batch).toMatchObject({
    status: 'completed',
    request_counts: { total: 2000, completed: 2000, failed: 0 },
    usage: { output_tokens: 6000 },
    turbine: { repaid: 200, prune_ratio_mean: 0 },
  })
  const output = await outputOf(world, id)
  expect(output.map(({ custom_id }) => custom_id)).toEqual(idsOf(2000))
  for (const { custom_id, repaid, level } of output) {
    expect([repaid, level]).toEqual([custom_id.endsWith('7'), 0])
    expect(world.processors.runs.get(custom_id)).toBe(repaid ? 2 : 1)
  }
  expect(world.troubles).toEqual([])
})

test('a batch is in progress meanwhile, and tells how far it is', async () => {
  const world = repayingWorld()
  const planner = start(world)
  const id = await world.createBatch(manifestOf(1024))
  await untilRepaying(world, planner)
  expect(await world.batch(id)).toMatchObject({
    status: 'in_progress',
    request_counts: { completed: 1024 },
    turbine: { prune_ratio_mean: 0.5 },
  })
  await step(world, planner, 1)
  await world.clock.advance(1_000)
  expect((await world.batch(id)).turbine).toMatchObject({ repaid: 256, prune_ratio_mean: 0.375 })
  // Nobody has to hurry for them.
  expect(planner.coordinator.backlogs).toEqual([])
})

test('without the setting results stay as they are', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(600))
  const batch = await world.finish(start(world), id)
  expect(batch.turbine).toEqual({ max_prune: 1, counting: false, prune_ratio_mean: 0.5 })
  expect(repaidCount(await outputOf(world, id))).toBe(0)
  expect([...world.processors.runs.values()].every((runs) => runs === 1)).toBe(true)
})

test('a batch of which nothing was pruned ends at once', async () => {
  const world = repayingWorld()
  world.processors.prunes = () => false
  const id = await world.createBatch(manifestOf(600))
  const batch = await world.finish(start(world), id)
  expect(batch.turbine).not.toHaveProperty('repaid')
  expect([...world.processors.runs.values()].every((runs) => runs === 1)).toBe(true)
})

test('a line whose image is gone keeps its result', async () => {
  const world = repayingWorld()
  world.processors.goneImages.add('a-3').add('a-300')
  const id = await world.createBatch(manifestOf(600))
  const batch = await world.finish(start(world), id)
  expect(batch).toMatchObject({ status: 'completed', turbine: { repaid: 598 } })
  const output = await outputOf(world, id)
  expect(output.filter(({ repaid }) => !repaid)).toEqual([
    { custom_id: 'a-3', repaid: false, level: 1 },
    { custom_id: 'a-300', repaid: false, level: 1 },
  ])
})

test('busy devices are asked seldom, and repay when they are idle', async () => {
  const world = repayingWorld()
  const planner = start(world)
  world.processors.busy = true
  const id = await world.createBatch(manifestOf(2560))
  await untilRepaying(world, planner)
  let asks = 0
  for (let second = 0; second < 60; second++) {
    asks += world.jobs.length
    await step(world, planner)
    await world.clock.advance(500)
  }
  expect(asks).toBeGreaterThan(4)
  expect(asks).toBeLessThan(20)
  expect((await world.batch(id)).status).toBe('in_progress')
  world.processors.busy = false
  expect((await world.finish(planner, id)).turbine.repaid).toBe(2560)
})

describe('when the time is up', () => {
  test('the batch completes with what it has, before it expires', async () => {
    const world = repayingWorld()
    const planner = start(world)
    world.processors.busy = true
    const expires_at = Math.floor(world.clock.now() / 1000) + 600
    const id = await world.createBatch(manifestOf(600), { expires_at })
    const batch = await world.finish(planner, id)
    expect(batch).toMatchObject({ status: 'completed', turbine: { prune_ratio_mean: 0.5 } })
    expect(batch.completed_at! * 1000).toBeGreaterThan(dueAt(batch) - 60_000)
    expect(batch.completed_at!).toBeLessThan(batch.expires_at - 20)
    expect(await outputOf(world, id)).toHaveLength(600)
  })

  test('nothing is begun', async () => {
    const world = repayingWorld()
    const planner = start(world)
    const expires_at = Math.floor(world.clock.now() / 1000) + 60
    const id = await world.createBatch(manifestOf(10), { expires_at })
    world.deliver(planner)
    await world.clock.advance(40_000)
    const batch = await world.finish(planner, id)
    expect(batch.status).toBe('completed')
    expect(repaidCount(await outputOf(world, id))).toBe(0)
  })

  test('shards that nobody has answered for count as they are', async () => {
    const world = repayingWorld()
    const planner = start(world)
    const expires_at = Math.floor(world.clock.now() / 1000) + 600
    const id = await world.createBatch(manifestOf(1024), { expires_at })
    await untilRepaying(world, planner)
    await step(world, planner, 1)
    await world.clock.until(async () => isFinal((await world.batch(id)).status))
    expect(await world.batch(id)).toMatchObject({ status: 'completed', turbine: { repaid: 256 } })
    expect(repaidCount(await outputOf(world, id))).toBe(256)
  })
})

describe('cancelling', () => {
  test('ends it: the batch has all its lines, so it completes', async () => {
    const world = repayingWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1024))
    await untilRepaying(world, planner)
    await step(world, planner, 1)
    await world.cancelBatch(id)
    const batch = await world.finish(planner, id, { limitMs: 30_000 })
    expect(batch).toMatchObject({
      status: 'completed',
      cancelling_at: null,
      request_counts: { completed: 1024 },
      turbine: { repaid: 256 },
    })
    expect((await outputOf(world, id)).map(({ custom_id }) => custom_id)).toEqual(idsOf(1024))
  })

  test('means the same to the next planner', async () => {
    const world = repayingWorld()
    const planner = start(world)
    const id = await world.createBatch(manifestOf(1024))
    await untilRepaying(world, planner)
    planner.kill()
    await world.cancelBatch(id)
    await world.clock.advance(20_000)
    const batch = await world.finish(start(world), id, { limitMs: 60_000 })
    expect(batch).toMatchObject({ status: 'completed', request_counts: { completed: 1024 } })
  })
})

test('a shard of which nothing is heard is found done', async () => {
  const world = repayingWorld()
  const planner = start(world)
  const id = await world.createBatch(manifestOf(256))
  await untilRepaying(world, planner)
  await world.process()
  world.control = []
  const batch = await world.finish(planner, id, { limitMs: 5 * 60_000 })
  expect(batch.turbine.repaid).toBe(256)
  expect([...world.processors.runs.values()].every((runs) => runs === 2)).toBe(true)
})

test('whenever a planner dies while it asks, the next one counts what is stored', async () => {
  for (let calls = 1; calls < 16; calls++) {
    const world = repayingWorld()
    const first = start(world)
    const id = await world.createBatch(manifestOf(1024))
    await untilRepaying(world, first)
    await world.process()
    world.deliver(first)
    first.killAfter(calls)
    await world.clock.advance(3_000)
    first.kill()
    const asked = world.jobs.length
    await world.process(1)
    world.control = []
    world.processors.busy = true
    await world.clock.advance(20_000)
    const second = start(world)
    await world.clock.advance(200_000)
    second.kill()
    const { status, turbine } = await world.batch(id)
    expect({ calls, status, repaid: turbine.repaid ?? 0 }).toEqual({
      calls,
      status: 'in_progress',
      repaid: asked === 0 ? 512 : 768,
    })
  }
})

test('a shard that the stream lost is asked for again, and only when the first ask counts no more', async () => {
  const world = repayingWorld()
  const planner = start(world)
  const id = await world.createBatch(manifestOf(256))
  await untilRepaying(world, planner)
  const [lost] = world.jobs.splice(0)
  await world.clock.advance(120_000)
  expect(world.jobs).toEqual([])
  await world.clock.advance(20_000)
  expect(world.jobs).toHaveLength(1)
  world.jobs.push(lost!)
  expect((await world.finish(planner, id)).turbine.repaid).toBe(256)
  expect([...world.processors.runs.values()].every((runs) => runs === 2)).toBe(true)
})

test('files that were begun early hold what was repaid', async () => {
  const world = repayingWorld()
  const id = await world.createBatch(manifestOf(20_000))
  const batch = await world.finish(start(world), id)
  expect(batch).toMatchObject({ status: 'completed', turbine: { repaid: 20_000, prune_ratio_mean: 0 } })
  const output = await outputOf(world, id)
  expect(repaidCount(output)).toBe(20_000)
  expect(output.map(({ custom_id }) => custom_id)).toEqual(idsOf(20_000))
  const shardsRead = world.calls.filter((call) => call === `get ${keys.batchShard('acme', id, 0)}`).length
  // For the file begun early, to see what is pruned, and for the file that counts.
  expect(shardsRead).toBe(3)
})

test('whenever planners die, the next one goes on, and counts and file agree', async () => {
  const deaths = fc.array(fc.integer({ min: 1, max: 80 }), { minLength: 1, maxLength: 2 })
  await fc.assert(
    fc.asyncProperty(deaths, fc.integer({ min: 1, max: 3 }), fc.boolean(), async (deaths, atOnce, heard) => {
      const world = repayingWorld()
      world.processors.prunes = (customId) => Number(customId.slice(2)) % 3 === 0
      const id = await world.createBatch(manifestOf(1500))
      let planner = world.startPlanner()
      planner.killAfter(deaths[0]!)
      let born = 1
      await world.clock.until(async () => {
        await world.process(atOnce)
        // What is said to a dead planner is lost.
        if (heard) world.deliver(planner)
        else world.control = []
        if (planner.dead) {
          planner = world.startPlanner()
          planner.killAfter(deaths[born++] ?? Number.POSITIVE_INFINITY)
        }
        return isFinal((await world.batch(id)).status)
      })
      planner.kill()
      expect(await world.batch(id)).toMatchObject({
        status: 'completed',
        request_counts: { total: 1500, completed: 1500, failed: 0 },
        usage: { output_tokens: 4500 },
        turbine: { repaid: 500, prune_ratio_mean: 0 },
      })
      const output = await outputOf(world, id)
      expect(output.map(({ custom_id }) => custom_id)).toEqual(idsOf(1500))
      expect(repaidCount(output)).toBe(500)
      expect(world.troubles.filter((trouble) => !/run alone/.test(trouble))).toEqual([])
    }),
    { numRuns: 25 },
  )
})

test('asks for more as long as devices are idle', () => {
  const window = new RepayWindow()
  expect(window.size(0)).toBe(2)
  for (let i = 0; i < 6; i++) window.grow()
  expect(window.size(0)).toBe(8)
})

test('rests when they are busy, and asks for half as much then', () => {
  const window = new RepayWindow()
  for (let i = 0; i < 6; i++) window.grow()
  window.shrink(1_000)
  window.shrink(2_000)
  expect([window.size(2_000), window.size(11_999), window.size(12_000)]).toEqual([0, 0, 4])
  window.shrink(20_000)
  window.shrink(40_000)
  expect(window.size(60_000)).toBe(2)
})
