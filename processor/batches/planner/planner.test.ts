import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test, vi } from 'vitest'
import { encodeControl } from '../../../edge/contract/shard.ts'
import { groups, topicLayout, topics } from '../../../edge/contract/topics.ts'
import { openSqliteStream } from '../../../infra/stream/sqlite.ts'
import { createMetrics } from '../../../infra/telemetry/metrics.ts'
import { idsOf, manifestOf, PlannerWorld } from './planner.fixture.ts'
import { measurePlanner, startPlanner } from './planner.ts'

const closers: (() => Promise<unknown>)[] = []

afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close()
})

async function openStream() {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-planner-'))
  closers.push(() => rm(folder, { recursive: true }))
  const stream = await openSqliteStream({ path: join(folder, 'stream.db') })
  closers.push(() => stream.close())
  await stream.ensureTopics(topicLayout(2))
  return stream
}

test('plans what the stream brings and counts what processors say', async () => {
  const world = new PlannerWorld()
  const stream = await openStream()
  const { store } = world.memory
  const metrics = createMetrics({ process: false })
  const planner = await startPlanner({ store, stream, now: Date.now, log: world.log, metrics })
  closers.push(() => planner.close(1000))
  const processor = await stream.consume({
    topic: topics.batch,
    group: groups.batch,
    maxInFlight: 4,
    async handle(record) {
      world.jobs.push(record)
      await world.process()
      await stream.send(topics.control, world.control.splice(0))
    },
  })
  closers.push(() => processor.close())

  const id = await world.createBatch(manifestOf(700))
  await stream.send(topics.control, world.control.splice(0))
  await vi.waitFor(async () => expect((await world.batch(id)).status).toBe('completed'), { timeout: 30_000 })
  const { output_file_id } = await world.batch(id)
  expect((await world.fileLines(output_file_id)).map(({ custom_id }) => custom_id)).toEqual(idsOf(700))
  await vi.waitFor(() => expect(planner.activeBatches()).toBe(0))
  const text = await metrics.render()
  expect(text).toContain('turbine_planned_lines_total 700')
  expect(text).toContain('turbine_batches_ended_total{status="completed"} 1')
  expect(text).toContain('turbine_batch_lines_left 0')
})

test('shows what is left, and how fast it has to go', async () => {
  const metrics = createMetrics({ process: false })
  const batch = (linesLeft: number, deadline: number) => ({ batch: 'b', maxPrune: 1, linesLeft, deadline })
  const state = { activeBatches: 3, backlogs: [batch(5000, 500_000), batch(10_000, 1_100_000)] }
  measurePlanner(metrics).watch(state, () => 100_000)
  expect(await metrics.render()).toMatch(/lines_left 15000\n.*per_second 15\n.*seconds_left 400\n/s)
  state.backlogs = []
  expect(await metrics.render()).toMatch(/lines_left 0\n.*per_second 0\n.*seconds_left \+Inf\n/s)
})

test('a control record that cannot be read goes to the dead letters', async () => {
  const world = new PlannerWorld()
  const stream = await openStream()
  const planner = await startPlanner({ store: world.memory.store, stream, now: Date.now, log: world.log })
  closers.push(() => planner.close(1000))
  const control = encodeControl({ type: 'batch_created', tenant: 'acme', batch: 'batch_9' })
  await stream.send(topics.control, [{ ...control, value: new TextEncoder().encode('{') }])
  await vi.waitFor(async () => expect(await stream.lag(topics.deadLetter, groups.deadLetter)).toBe(1))
})
