import { afterEach, beforeEach, expect, test } from 'vitest'
import { keys } from '../../edge/contract/keys.ts'
import type { BatchPace } from '../../edge/contract/pace.ts'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { type ObjectStore, StoreUnavailableError } from '../../infra/store/store.ts'
import { VirtualClock } from '../batches/planner/virtual-clock.fixture.ts'
import { createPaces, type Paces } from './batch-progress.ts'

let store: ObjectStore
let clock: VirtualClock
let paces: Paces
let away: boolean
let warnings: string[]

const say = (planner: string, ...batches: BatchPace[]) =>
  store.put(keys.pace(planner), JSON.stringify({ seenAt: clock.now(), batches }))

const pace = (batch: string, linesLeft: number): BatchPace => ({
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
  paces = createPaces({
    store: flaky,
    now: clock.now,
    log: { warn: (_, message) => void warnings.push(message) },
    sleep: (ms, signal) => clock.sleep(ms, signal),
  })
})

afterEach(() => paces.close())

test('are those that all planners tell of, and follow them', async () => {
  await say('one', pace('a', 10), pace('b', 20))
  await say('two', pace('c', 30))
  await clock.advance(6_000)
  expect(paces.batches()).toEqual([pace('a', 10), pace('b', 20), pace('c', 30)])
  await say('one', pace('b', 5))
  await clock.advance(6_000)
  expect(paces.batches().map(({ batch, linesLeft }) => [batch, linesLeft])).toEqual([
    ['c', 30],
    ['b', 5],
  ])
})

test('a batch that changed hands counts once, as it was told last', async () => {
  await say('one', pace('a', 10))
  await clock.advance(1_000)
  await say('two', pace('a', 7))
  await clock.advance(6_000)
  expect(paces.batches()).toEqual([pace('a', 7)])
})

test('a planner that is silent for half a minute is forgotten, others stay', async () => {
  await say('one', pace('a', 10))
  await clock.advance(20_000)
  await say('two', pace('b', 20))
  await clock.advance(9_000)
  expect(paces.batches()).toHaveLength(2)
  await clock.advance(2_000)
  expect(paces.batches()).toEqual([pace('b', 20)])
})

test('an outage is bridged for a while, and told of once', async () => {
  await say('one', pace('a', 10))
  await clock.advance(1_000)
  await paces.refresh()
  away = true
  await clock.advance(25_000)
  expect(paces.batches()).toEqual([pace('a', 10)])
  await clock.advance(5_000)
  expect(paces.batches()).toEqual([])
  expect(warnings).toHaveLength(1)
  away = false
  await say('one', pace('a', 3))
  await clock.advance(6_000)
  expect(paces.batches()).toEqual([pace('a', 3)])
})
