import { afterEach, expect, test, vi } from 'vitest'
import type { BatchBacklog } from '../../edge/contract/backlog.ts'
import { jobTopic, topics } from '../../edge/contract/topics.ts'
import type { GroupState } from '../../infra/stream/stream.ts'
import { createMetrics } from '../../infra/telemetry/metrics.ts'
import { batchBacklog, FleetWatch, measureFleet, streamBacklog } from './load.ts'

const started = 1_790_000_000_000
const opened: FleetWatch[] = []
afterEach(async () => {
  for (const fleet of opened.splice(0)) await fleet.close()
})

/** A fleet that a test moves on, five seconds at a time. */
function fleetOf({
  throughput = 10 as number | null,
  batches = [] as BatchBacklog[],
  ownTopics = undefined as boolean | undefined,
} = {}) {
  const asked = new Set<string>()
  const quiet: GroupState = { lag: 0, taken: 0, members: 1, partitions: 12 }
  const state = { now: started, away: false, interactive: quiet, batch: quiet }
  const warn = vi.fn()
  let turn = Promise.withResolvers<void>()
  let looked = Promise.withResolvers<void>()
  const fleet = new FleetWatch({
    stream: {
      groupState: async (topic) => {
        if (state.away) throw new Error('away')
        asked.add(topic)
        return topic.startsWith(topics.interactive) ? state.interactive : state.batch
      },
    },
    model: () => 'owner/name',
    ownTopics,
    batches: () => batches,
    throughput: () => throughput ?? undefined,
    log: { warn },
    now: () => state.now,
    sleep: async (_, signal) => {
      looked.resolve()
      await Promise.race([turn.promise, new Promise((stop) => signal.addEventListener('abort', stop))])
    },
  })
  opened.push(fleet)
  return {
    fleet,
    asked,
    state,
    warn,
    first: looked.promise,
    async pass(change: Partial<typeof state> = {}) {
      await looked.promise
      Object.assign(state, { now: state.now + 5_000 }, change)
      looked = Promise.withResolvers()
      turn.resolve()
      turn = Promise.withResolvers()
      await looked.promise
    },
  }
}

const group = (state: Partial<GroupState>): GroupState => ({
  lag: 0,
  taken: 0,
  members: 1,
  partitions: 12,
  ...state,
})

test('what is desired follows from arrivals and backlog of the whole fleet', async () => {
  const { fleet, pass } = fleetOf()
  for (let taken = 0; taken <= 700; taken += 100) await pass({ interactive: group({ taken }) })
  // 20 images a second at 70 % of 10 for each replica.
  expect(fleet.desired()?.interactive).toBeCloseTo(20 / 7)
  await pass({ interactive: group({ taken: 800, lag: 300 }) })
  expect(fleet.desired()?.interactive).toBeCloseTo((20 + 300 / 30) / 7)
})

test('a burst that is over is forgotten', async () => {
  const { fleet, pass } = fleetOf()
  await pass({ interactive: group({ taken: 1000 }) })
  for (let turn = 0; turn < 7; turn++) await pass()
  expect(fleet.desired()).toEqual({ interactive: 0, batch: 0 })
})

test('batches count by what is left of them and of their time, shared by those that take them', async () => {
  const backlog = { batch: 'b', deadline: started + 1_000_000, linesLeft: 9_001, maxPrune: 1 }
  const { fleet, first, pass } = fleetOf({ batches: [backlog] })
  await first
  expect(fleet.desired()?.batch).toBeCloseTo(9.001 / 9)
  await pass({ batch: group({ members: 3 }) })
  expect(fleet.batchShare()).toEqual([{ ...backlog, linesLeft: 3001 }])
})

test('the load of a model is in its topics, and in its batches', async () => {
  const backlog = { batch: 'b', deadline: started + 1_000_000, linesLeft: 90, maxPrune: 1 }
  const batches = [
    { ...backlog, model: 'owner/name' },
    { ...backlog, model: 'another' },
    { ...backlog, linesLeft: 5 },
  ]
  const own = fleetOf({ batches, ownTopics: true })
  await own.first
  expect([...own.asked]).toEqual([
    jobTopic('interactive', 'owner/name').topic,
    jobTopic('batch', 'owner/name').topic,
  ])
  expect(own.fleet.batchShare().map(({ linesLeft }) => linesLeft)).toEqual([90, 5])
  const shared = fleetOf()
  await shared.first
  expect([...shared.asked]).toEqual([topics.interactive, topics.batch])
})

test('metrics tell the load of each model', async () => {
  const { fleet, pass } = fleetOf()
  await pass({ interactive: group({ members: 4, lag: 7 }) })
  const metrics = createMetrics({ process: false })
  measureFleet(metrics, () => [fleet])
  const text = await metrics.render()
  expect(text).toContain('turbine_replicas{lane="interactive",model="owner/name"} 4')
  expect(text).toContain('turbine_stream_lag{lane="interactive",model="owner/name"} 7')
})

test('what cannot be seen is not known, and told once', async () => {
  const { fleet, pass, warn } = fleetOf()
  await pass({ interactive: group({ members: 4, lag: 7 }) })
  expect([fleet.replicas('interactive'), fleet.lag('interactive')]).toEqual([4, 7])
  await pass({ away: true })
  expect(fleet.replicas('interactive')).toBe(4)
  for (let turn = 0; turn < 7; turn++) await pass()
  expect(fleet.replicas('interactive')).toBeUndefined()
  expect(fleet.desired()).toBeUndefined()
  expect(warn).toHaveBeenCalledOnce()
  await pass({ away: false })
  expect(fleet.replicas('interactive')).toBe(4)
})

test('nothing is desired while nobody knows what a replica can do', async () => {
  const { fleet, first } = fleetOf({ throughput: null })
  await first
  expect(fleet.desired()).toBeUndefined()
})

const levels = [0, 0.3, 0.6].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio }))
const backlog = (batch: string, deadline: number, linesLeft: number, maxPrune = 1) => ({
  ...{ batch, deadline, linesLeft, maxPrune },
})

test('batches come in the order of their deadlines, each within what it allows', () => {
  const share = [backlog('late', 900, 50), backlog('soon', 100, 20, 0.4), backlog('done', 50, 0)]
  expect(batchBacklog(share, { levels, queued: 0 })).toEqual([
    { deadline: 100, images: 20, maxLevel: 1 },
    { deadline: 900, images: 50, maxLevel: 2 },
  ])
})

test('what is in the queue already counts once', () => {
  const share = [backlog('soon', 100, 20), backlog('late', 900, 50)]
  expect(batchBacklog(share, { levels, queued: 32 })).toEqual([{ deadline: 900, images: 38, maxLevel: 2 }])
})

const stream = { levels, lag: 900, replicas: 3, limit: 100, deadline: 700 }

test('a processor with room has nothing left in the stream', () => {
  expect(streamBacklog({ ...stream, inFlight: 99 })).toEqual([])
})

test('of what is in the stream a full processor gets its share', () => {
  expect(streamBacklog({ ...stream, inFlight: 100 })).toEqual([{ deadline: 700, images: 200, maxLevel: 2 }])
  expect(streamBacklog({ ...stream, lag: 90, inFlight: 100 })).toEqual([])
})
