import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { BatchBacklog, PlannerBacklog } from '../../edge/contract/backlog.ts'
import { keys } from '../../edge/contract/keys.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { getJson, type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { manifestOf, PlannerWorld, type TestPlanner } from '../batches/planner/planner.fixture.ts'
import { VirtualClock } from '../batches/planner/virtual-clock.fixture.ts'
import { Outages } from '../delivery/outages.ts'
import { announceBacklogs, type Backlogs, createBacklogs } from './batch-progress.ts'

let store: ObjectStore
let clock: VirtualClock
let backlogs: Backlogs
let away: boolean
let warnings: string[]

const say = (planner: string, ...batches: BatchBacklog[]) =>
  store.put(keys.backlog(planner), JSON.stringify({ seenAt: clock.now(), batches }))

const backlog = (batch: string, linesLeft: number): BatchBacklog => ({
  batch,
  deadline: 1000,
  linesLeft,
  maxPrune: 1,
})

beforeEach(() => {
  ;({ store } = memoryStore())
  clock = new VirtualClock()
  away = false
  warnings = []
  const flaky: ObjectStore = {
    ...store,
    list: (...args) => (away ? Promise.reject(new StoreUnavailableError('away')) : store.list(...args)),
  }
  backlogs = createBacklogs({
    store: flaky,
    now: clock.now,
    log: { warn: (_, message) => void warnings.push(message) },
    sleep: (ms, signal) => clock.sleep(ms, signal),
  })
})

afterEach(() => backlogs.close())

test('are those that all planners tell of, and follow them', async () => {
  await say('one', backlog('a', 10), backlog('b', 20))
  await say('two', backlog('c', 30))
  await clock.advance(6_000)
  expect(backlogs.batches()).toEqual([backlog('a', 10), backlog('b', 20), backlog('c', 30)])
  await say('one', backlog('b', 5))
  await clock.advance(6_000)
  expect(backlogs.batches().map(({ batch, linesLeft }) => [batch, linesLeft])).toEqual([
    ['c', 30],
    ['b', 5],
  ])
})

test('a batch that changed hands counts once, as it was told last', async () => {
  await say('one', backlog('a', 10))
  await clock.advance(1_000)
  await say('two', backlog('a', 7))
  await clock.advance(6_000)
  expect(backlogs.batches()).toEqual([backlog('a', 7)])
})

test('a planner that is silent for half a minute is forgotten, others stay', async () => {
  await say('one', backlog('a', 10))
  await clock.advance(20_000)
  await say('two', backlog('b', 20))
  await clock.advance(9_000)
  expect(backlogs.batches()).toHaveLength(2)
  await clock.advance(2_000)
  expect(backlogs.batches()).toEqual([backlog('b', 20)])
})

test('an outage is bridged for a while, and told of once', async () => {
  await say('one', backlog('a', 10))
  await clock.advance(1_000)
  await backlogs.refresh()
  away = true
  await clock.advance(25_000)
  expect(backlogs.batches()).toEqual([backlog('a', 10)])
  await clock.advance(5_000)
  expect(backlogs.batches()).toEqual([])
  expect(warnings).toHaveLength(1)
  away = false
  await say('one', backlog('a', 3))
  await clock.advance(6_000)
  expect(backlogs.batches()).toEqual([backlog('a', 3)])
})

describe('announcing', () => {
  let memory: ReturnType<typeof memoryStore>
  let clock: VirtualClock
  let warnings: string[]
  beforeEach(() => {
    memory = memoryStore()
    clock = new VirtualClock()
    warnings = []
  })

  function announce(batches: () => BatchBacklog[], change: Partial<ObjectStore> = {}) {
    const log = { info: () => {}, warn: (_: object, message: string) => void warnings.push(message) }
    const outages = new Outages({ clock, log })
    return announceBacklogs({
      store: { ...memory.store, ...change },
      owner: 'me',
      clock,
      outages,
      log,
      batches,
    })
  }

  const told = () => getJson<PlannerBacklog>(memory.store, keys.backlog('me'))
  const backlog = (batch: string, deadline: number): BatchBacklog => ({
    batch,
    deadline,
    linesLeft: 1,
    maxPrune: 1,
  })

  test('of very many batches the most urgent are told', async () => {
    const batches = Array.from({ length: 10_001 }, (_, i) => backlog(`b${i}`, (i * 7919) % 10_001))
    const announcing = announce(() => batches)
    await clock.advance(100)
    const { batches: named } = (await told())!
    expect(named).toHaveLength(10_000)
    expect(Math.max(...named.map(({ deadline }) => deadline))).toBe(9_999)
    await announcing.close()
  })

  test('an outage is outlasted', async () => {
    let away = true
    const announcing = announce(() => [backlog('a', 1)], {
      put: (...args) =>
        away ? Promise.reject(new StoreUnavailableError('away')) : memory.store.put(...args),
    })
    await clock.advance(20_000)
    expect([await told(), warnings]).toEqual([undefined, ['store or stream unavailable, batches paused']])
    away = false
    await clock.advance(6_000)
    expect((await told())!.batches).toEqual([backlog('a', 1)])
    await announcing.close()
  })

  test('closing does not wait for a store that is away', async () => {
    const announcing = announce(() => [backlog('a', 1)], {
      delete: async () => Promise.reject(new StoreUnavailableError('away')),
    })
    await clock.advance(100)
    await expect(announcing.close()).resolves.toBeUndefined()
  })

  test('what planners left behind that died long ago is removed', async () => {
    await memory.store.put(keys.backlog('dead'), '{}')
    const much = 2 * 3_600_000
    clock = new VirtualClock(Date.now() + much)
    const announcing = announce(() => [backlog('a', 1)])
    await clock.advance(100)
    expect(memory.objects.keys()).toEqual([keys.backlog('me')])
    await announcing.close()
  })

  describe('what a planner tells', () => {
    const told = () => getJson<PlannerBacklog>(world.memory.store, keys.backlog('planner-1'))
    let world: PlannerWorld
    let planner: TestPlanner
    beforeEach(() => {
      world = new PlannerWorld()
      planner = world.startPlanner()
    })
    afterEach(() => planner.kill())

    test('is how much of which batch is left until when', async () => {
      const relaxed = await world.createBatch(`${manifestOf(2000)}nonsense\n`)
      const created = world.clock.now()
      const turbine = { max_prune: 0.4, prune_ratio_mean: null, counting: true }
      const expires_at = Math.floor(created / 1000) + 3600
      const pressed = await world.createBatch(manifestOf(300, 'b'), { expires_at, turbine })
      world.deliver(planner)
      await world.clock.advance(6_000)
      const backlog = await told()
      expect(world.clock.now() - backlog!.seenAt).toBeLessThan(5_000)
      expect(backlog!.batches).toEqual([
        {
          batch: relaxed,
          model: expect.any(String),
          deadline: expect.any(Number),
          linesLeft: 2000,
          maxPrune: 1,
        },
        {
          batch: pressed,
          model: expect.any(String),
          deadline: 1000 * (expires_at - 180),
          linesLeft: 300,
          maxPrune: 0.4,
        },
      ])
      await world.process(3)
      world.deliver(planner)
      await world.clock.advance(6_000)
      expect((await told())!.batches.find(({ batch }) => batch === relaxed)?.linesLeft).toBe(2001 - 3 * 256)
    })

    test('ends with the last batch, and is removed with the planner', async () => {
      await world.clock.advance(6_000)
      expect(await told()).toBeUndefined()
      const id = await world.createBatch(manifestOf(10))
      world.deliver(planner)
      await world.clock.advance(6_000)
      await world.finish(planner, id)
      await world.clock.advance(6_000)
      const last = await told()
      expect(last!.batches).toEqual([])
      await world.clock.advance(30_000)
      expect(await told()).toEqual(last)
      const closing = planner.coordinator.close()
      await world.clock.advance(100)
      await closing
      expect(await told()).toBeUndefined()
    })
  })
})
