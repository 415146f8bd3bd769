import { expect, test } from 'vitest'
import { isFinal } from '../../../edge/contract/batch.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { idsOf, manifestOf, PlannerWorld, start, type TestPlanner } from './planner.fixture.ts'

/** Lets planners run the batches, each in place of one that died, until these are over. */
async function runBatches(world: PlannerWorld, ids: string[], poison: RegExp, shardsAtOnce = 8) {
  const planners: TestPlanner[] = []
  const next = () => {
    const planner = start(world)
    planner.killAt(poison)
    planners.push(planner)
  }
  next()
  await world.clock.until(async () => {
    await world.process(shardsAtOnce)
    world.deliver(planners.at(-1)!)
    if (planners.at(-1)!.dead) next()
    return (await Promise.all(ids.map((id) => world.batch(id)))).every(({ status }) => isFinal(status))
  })
  return planners.length - 1
}

const readsInputOf = (id: string) => new RegExp(`get files/acme/content/${id.replace('batch_', 'file-')}$`)

test('a batch whose input kills its planner fails after three deaths, and says so; others go on', async () => {
  const world = new PlannerWorld()
  const poison = await world.createBatch(manifestOf(10))
  const others = await Promise.all(Array.from({ length: 5 }, () => world.createBatch(manifestOf(600))))
  const deaths = await runBatches(world, [poison, ...others], readsInputOf(poison))
  expect(deaths).toBe(3)
  expect(await world.batch(poison)).toMatchObject({
    status: 'failed',
    errors: { data: [{ code: 'batch_crashed', message: /crashed 3 times while reading its input/ }] },
    output_file_id: null,
  })
  for (const id of others) {
    const batch = await world.batch(id)
    expect(batch.status).toBe('completed')
    expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(600))
  }
})

test('of two that kill planners, each is found', async () => {
  const world = new PlannerWorld()
  const ids = await Promise.all(Array.from({ length: 6 }, () => world.createBatch(manifestOf(300))))
  const poison = new RegExp(`${readsInputOf(ids[1]!).source}|${readsInputOf(ids[4]!).source}`)
  expect(await runBatches(world, ids, poison)).toBeLessThanOrEqual(6)
  const statuses = (await Promise.all(ids.map((id) => world.batch(id)))).map(({ status }) => status)
  const [good, bad] = ['completed', 'failed']
  expect(statuses).toEqual([good, bad, good, good, bad, good])
})

test('what was done before is kept', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(2000))
  const first = start(world)
  world.deliver(first)
  await world.clock.advance(2_000)
  await world.process(3)
  world.deliver(first)
  await world.clock.advance(2_000)
  first.kill()
  world.jobs = []
  // From now on, planners die as soon as they look at the plan.
  await runBatches(world, [id], /^get .*plan/)
  const batch = await world.batch(id)
  expect(batch).toMatchObject({ status: 'failed', errors: { data: [{ code: 'batch_crashed' }] } })
  expect(await world.customIds(batch.output_file_id)).toEqual(idsOf(768))
})

test('a batch whose files kill the planner ends without them', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(10))
  expect(await runBatches(world, [id], /^put files\/acme\/content/)).toBe(3)
  expect(await world.batch(id)).toMatchObject({
    status: 'failed',
    errors: { data: [{ code: 'batch_crashed', message: /writing its result files/ }] },
  })
  expect(world.memory.objects.has(keys.openBatch('acme', id))).toBe(false)
})

test('planners that are closed, or lose the batch alive, are no deaths', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(10))
  for (let i = 0; i < 5; i++) {
    const planner = start(world)
    planner.stallAt(/^get .*content/)
    world.deliver(planner)
    await world.clock.advance(20_000)
    const closing = planner.coordinator.close()
    await world.clock.advance(1_000)
    planner.resume()
    await closing
  }
  expect((await world.progress(id))?.attempt?.deaths).toBe(0)

  // It cannot write its heartbeat for a while, and sees that another has taken the batch.
  for (let i = 0; i < 5; i++) {
    const planner = start(world)
    planner.stallAt(/^get .*content|^put .*progress/)
    await world.clock.advance(20_000)
    const second = start(world)
    second.stallAt(/^get .*content/)
    await world.clock.advance(10_000)
    planner.resume()
    await world.clock.advance(3_000)
    planner.kill()
    const closing = second.coordinator.close()
    second.resume()
    await world.clock.advance(1_000)
    await closing
  }
  expect((await world.finish(start(world), id)).status).toBe('completed')
})

test('outages of the store are no deaths', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(2000))
  const planner = start(world)
  world.deliver(planner)
  for (let i = 0; i < 5; i++) {
    await world.clock.advance(2_000)
    world.storeIsAway = true
    await world.clock.advance(40_000)
    world.storeIsAway = false
  }
  expect((await world.progress(id))?.attempt?.deaths).toBe(0)
  expect((await world.finish(planner, id)).status).toBe('completed')
})

test('planners that die at other times are forgotten when the batch gets on', async () => {
  const world = new PlannerWorld()
  const id = await world.createBatch(manifestOf(5000))
  for (let i = 0; i < 6; i++) {
    const planner = start(world)
    await world.clock.advance(20_000)
    await world.process(1)
    world.deliver(planner)
    await world.clock.advance(2_000)
    planner.kill()
  }
  expect((await world.progress(id))?.attempt).toMatchObject({ phase: 'running', deaths: 0 })
  expect((await world.finish(start(world), id)).status).toBe('completed')
})
