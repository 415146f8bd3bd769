import fc from 'fast-check'
import { expect, test } from 'vitest'
import { isFinal } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { decodeShardJob } from '../../../edge/contract/shard.ts'
import { idsOf, manifestOf, PlannerWorld } from './planner.fixture.ts'

const lines = 1500

test('whenever planners die, the next one finishes with every line once and in order', async () => {
  const deaths = fc.array(fc.integer({ min: 1, max: 60 }), { minLength: 1, maxLength: 2 })
  const shardsAtOnce = fc.integer({ min: 1, max: 6 })
  await fc.assert(
    fc.asyncProperty(deaths, shardsAtOnce, fc.boolean(), async (deaths, shardsAtOnce, heard) => {
      const world = new PlannerWorld()
      const id = await world.createBatch(manifestOf(lines))
      let planner = world.startPlanner()
      planner.killAfter(deaths[0]!)
      let born = 1
      await world.clock.until(async () => {
        await world.process(shardsAtOnce)
        // What is said to a dead planner is lost.
        if (heard) world.deliver(planner)
        else world.control = []
        if (planner.dead) {
          planner = world.startPlanner()
          planner.killAfter(deaths[born++] ?? Number.POSITIVE_INFINITY)
        }
        return isFinal((await world.batch(id)).status)
      })
      await world.clock.advance(30_000)
      planner.kill()
      const batch = await world.batch(id)
      expect(batch).toMatchObject({
        status: 'completed',
        request_counts: { total: lines, completed: lines, failed: 0 },
      })
      expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(lines))
      expect(world.troubles.filter((trouble) => !/run alone/.test(trouble))).toEqual([])
    }),
    { numRuns: 40 },
  )
})

test('a planner that dies while it cleans up leaves it to the next', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(10))
  const first = world.startPlanner()
  await world.clock.until(async () => {
    await world.process()
    world.deliver(first)
    return isFinal((await world.batch(id)).status)
  })
  await world.memory.store.put(keys.openBatch('acme', id), '')
  await world.memory.store.put(keys.batchShard('acme', id, 7), 'left over')
  first.kill()
  const second = world.startPlanner()
  await world.clock.advance(20_000)
  second.kill()
  expect(world.memory.objects.keys().filter((key) => /^(batch-work|open-batches)/.test(key))).toEqual([])
})

test('of two planners, one has the batch; the stream decides which', async () => {
  const world = new PlannerWorld()
  const first = world.startPlanner()
  const second = world.startPlanner()
  const id = await world.createBatch(manifestOf(5000))
  const created = world.control.splice(0)
  world.deliver(first, created)
  await world.clock.advance(2_000)
  world.deliver(second, created)
  await world.clock.advance(2_000)
  expect([first.coordinator.activeBatches, second.coordinator.activeBatches]).toEqual([1, 0])

  await world.clock.advance(60_000)
  expect([first.coordinator.activeBatches, second.coordinator.activeBatches]).toEqual([1, 0])
  await world.process(1)
  world.deliver(second)
  await world.clock.advance(7_000)
  expect([first.coordinator.activeBatches, second.coordinator.activeBatches]).toEqual([0, 1])
  await world.clock.until(async () => {
    await world.process(4)
    world.deliver(second)
    return isFinal((await world.batch(id)).status)
  })
  const batch = await world.batch(id)
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(5000))
  expect(world.troubles).toEqual([])
  first.kill()
  second.kill()
})

test('of planners that claim a batch at the same time, one sends its shards', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(2000))
  world.control = []
  await world.clock.advance(15_000)
  const planners = [world.startPlanner(), world.startPlanner(), world.startPlanner()]
  await world.clock.advance(2_000)
  expect(world.jobs.map((job) => decodeShardJob(job).shard)).toEqual([0, 1, 2, 3, 4, 5, 6, 7])
  expect(planners.filter(({ coordinator }) => coordinator.activeBatches === 1)).toHaveLength(1)
  expect((await world.batch(id)).status).toBe('in_progress')
  for (const planner of planners) planner.kill()
})

test('the next planner goes on with the stored plan', async () => {
  const world = new PlannerWorld()
  const first = world.startPlanner()
  const id = await world.createBatch(manifestOf(2000))
  world.deliver(first)
  await world.clock.advance(2_000)
  first.kill()
  await world.clock.advance(20_000)
  const manifestReads = () =>
    world.calls.filter((call) => call === `get ${keys.fileContent('acme', 'file-1')}`)
  // Its first bytes, and all of it.
  expect(manifestReads()).toHaveLength(2)
  const second = world.startPlanner()
  await world.finish(second, id)
  expect(manifestReads()).toHaveLength(2)
  second.kill()
})

test('what was done while nobody looked is not sent again', async () => {
  const world = new PlannerWorld()
  const first = world.startPlanner()
  const id = await world.createBatch(manifestOf(2000))
  world.deliver(first)
  await world.clock.advance(300)
  first.kill()
  expect(world.jobs).toHaveLength(8)
  await world.process()
  world.control = []
  await world.clock.advance(20_000)
  const second = world.startPlanner()
  await world.clock.until(async () => isFinal((await world.batch(id)).status))
  second.kill()
  expect(world.jobs).toEqual([])
  expect((await world.batch(id)).request_counts.completed).toBe(2000)
})

test('a planner that is closed lets another go on at once', async () => {
  const world = new PlannerWorld()
  const first = world.startPlanner()
  const id = await world.createBatch(manifestOf(2000))
  world.deliver(first)
  await world.clock.advance(2_000)
  const closing = first.coordinator.close()
  await world.clock.advance(100)
  await closing
  expect(first.coordinator.activeBatches).toBe(0)
  await world.clock.advance(10_000)
  const second = world.startPlanner()
  await world.clock.advance(100)
  expect(second.coordinator.activeBatches).toBe(1)
  await world.clock.until(async () => {
    await world.process(4)
    world.deliver(second)
    return isFinal((await world.batch(id)).status)
  })
  second.kill()
  const batch = await world.batch(id)
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(2000))
  expect([...world.processors.runs.values()].every((runs) => runs === 1)).toBe(true)
})

test('a planner that is closed while it marks expired lines leaves the rest to the next', async () => {
  const world = new PlannerWorld()
  const first = world.startPlanner()
  const expires_at = Math.floor(world.clock.now() / 1000) + 60
  const id = await world.createBatch(manifestOf(3000), { expires_at })
  world.deliver(first)
  first.stallAt(/^put .*shards/)
  await world.clock.advance(75_000)
  const closing = first.coordinator.close()
  first.resume()
  await world.clock.advance(100)
  await closing
  const second = world.startPlanner()
  await world.clock.until(async () => isFinal((await world.batch(id)).status))
  second.kill()
  const { status, error_file_id } = await world.batch(id)
  expect(status).toBe('expired')
  expect(await world.customIds(error_file_id)).toEqual(idsOf(3000))
})

test('whenever the planner of a cancelled batch dies, its counts and its file agree', async () => {
  for (let calls = 1; calls < 25; calls++) {
    const world = new PlannerWorld()
    const first = world.startPlanner()
    const id = await world.createBatch(manifestOf(2000))
    world.deliver(first)
    await world.clock.advance(2_000)
    await world.process(2)
    const notSeenYet = world.jobs.splice(0, 1)
    await world.cancelBatch(id)
    world.deliver(first)
    first.killAfter(calls)
    await world.clock.advance(6_000)
    first.kill()
    const before = await world.progress(id)
    // A processor that had not seen the mark writes a shard after all.
    await world.memory.store.delete(keys.batchCancel('acme', id))
    world.jobs = notSeenYet
    if (before) await world.process()
    await world.cancelBatch(id)
    // The next one dies as soon as the batch is its own.
    await world.clock.advance(20_000)
    const second = world.startPlanner()
    second.killAfter(4)
    await world.clock.advance(20_000)
    const third = world.startPlanner()
    await world.clock.until(async () => isFinal((await world.batch(id)).status))
    third.kill()
    const { status, request_counts, output_file_id } = await world.batch(id)
    const counted = before && before.seal === undefined ? 768 : 512
    expect({ calls, status, completed: request_counts.completed }).toEqual({
      calls,
      status: 'cancelled',
      completed: counted,
    })
    expect(await world.customIds(output_file_id)).toEqual(idsOf(counted))
  }
})
