import { expect, test } from 'vitest'
import { keys } from '../../../edge/contract/keys.ts'
import { encodeControl, encodeShard } from '../../../edge/contract/shard.ts'
import { readShard, writeShard } from '../shard/results.ts'
import { idsOf, manifestOf, PlannerWorld, start, type TestPlanner } from './planner.fixture.ts'

/** A batch of 79 shards, all sent, the first ones done. */
async function begin(world: PlannerWorld, planner: TestPlanner) {
  const id = await world.createBatch(manifestOf(20_000))
  world.deliver(planner)
  await world.clock.until(async () => {
    if ((await world.progress(id))?.work.sent === 79) return true
    await world.process(2)
    world.deliver(planner)
    return false
  })
  await world.clock.advance(3_000)
  return id
}

const resultsRead = (world: PlannerWorld, id: string) =>
  world.calls.filter((call) => call === `get ${keys.batchShard('acme', id, 0)}`).length

test('a large batch has its files begun while shards are being done', async () => {
  const world = new PlannerWorld()
  const planner = start(world)
  const id = await begin(world, planner)
  expect(await world.batch(id)).toMatchObject({ status: 'in_progress' })
  expect(resultsRead(world, id)).toBe(1)
  const batch = await world.finish(planner, id)
  expect(resultsRead(world, id)).toBe(1)
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(20_000))
})

test('a large batch has them begun anew when the store fails', async () => {
  const world = new PlannerWorld()
  const planner = start(world)
  const id = await begin(world, planner)
  world.storeIsAway = true
  await world.process(1)
  world.deliver(planner)
  await world.clock.advance(5_000)
  world.storeIsAway = false
  const batch = await world.finish(planner, id)
  expect(resultsRead(world, id)).toBe(2)
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(20_000))
})

test('a large batch has no file before it is kept that all shards count', async () => {
  const world = new PlannerWorld()
  const planner = start(world)
  const id = await begin(world, planner)
  const output = keys.fileContent('acme', `file-${id.replace('batch_', '')}-output`)
  world.hung = /^put .*progress\.json$/
  await world.process()
  world.deliver(planner)
  await world.clock.advance(5_000)
  expect(world.memory.objects.has(output)).toBe(false)
  planner.kill()
  world.hung = undefined
  await world.clock.advance(20_000)
  const batch = await world.finish(start(world), id)
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(20_000))
})

test('a large batch has them begun anew when results in them were replaced', async () => {
  const world = new PlannerWorld()
  const planner = start(world)
  const id = await begin(world, planner)
  const shard = { tenant: 'acme', batch: id, shard: 0 }
  const stored = (await readShard(world.memory.store, shard))!
  const tally = { ...stored.tally, completed: 1 }
  const object = encodeShard(tally, ['{"custom_id":"retried"}'], [])
  await writeShard(world.memory.store, shard, { tally, object }, stored)
  world.deliver(planner, [encodeControl({ type: 'shard_done', ...shard, tally, replaced: true })])
  const batch = await world.finish(planner, id)
  expect(await world.customIds(batch.output_file_id)).toEqual(['retried', ...idsOf(20_000).slice(256)])
  expect(batch.request_counts.completed).toBe(20_000 - 255)
})

test('a large batch has no file before it is kept which shards count', async () => {
  const world = new PlannerWorld()
  const planner = start(world)
  const id = await begin(world, planner)
  await world.cancelBatch(id)
  const batch = await world.finish(planner, id)
  expect(batch.status).toBe('cancelled')
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(batch.request_counts.completed))
  // What was begun early is given up.
  expect(resultsRead(world, id)).toBe(2)
})

test('a planner that stalls before its final state is saved does not overwrite the file of a cancelled batch', async () => {
  const world = new PlannerWorld()
  const stalled = start(world)
  const id = await begin(world, stalled)
  const late = world.jobs.splice(-1)
  await world.process()
  world.deliver(stalled)
  await world.clock.advance(2_000)
  stalled.stallAt(/cancel$|progress\.json$/)
  await world.cancelBatch(id, { silently: true })
  await world.clock.advance(20_000)
  const batch = await world.finish(start(world), id)
  expect([batch.status, batch.request_counts.completed]).toEqual(['cancelled', 78 * 256])
  const output = () => world.memory.store.head(keys.fileContent('acme', batch.output_file_id!))
  const written = await output()
  // A processor that had not seen the cancellation tells the stalled planner of the last shard.
  await world.memory.store.delete(keys.batchCancel('acme', id))
  world.jobs = late
  await world.process()
  world.deliver(stalled)
  await world.clock.advance(5_000)
  stalled.resume()
  await world.clock.advance(20_000)
  expect(await world.batch(id)).toEqual(batch)
  expect(await output()).toEqual(written)
  expect(stalled.coordinator.activeBatches).toBe(0)
})
