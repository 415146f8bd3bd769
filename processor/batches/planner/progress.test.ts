import { expect, test } from 'vitest'
import { BatchWork, emptyTally } from './progress.ts'

const shards = (count: number) =>
  Array.from({ length: count }, (_, i) => ({
    start: i,
    end: i + 1,
    firstLine: i + 1,
    lines: 1,
    duplicates: [],
  }))
const done = { ...emptyTally, completed: 1, pruneRatioSum: 0.5 }

test('sends each shard once, lowest first, and none that is done', () => {
  const work = new BatchWork()
  work.plan(shards(5), 5)
  work.finish(1, done)
  expect(work.next(2)).toEqual([0, 2])
  work.markSent([0, 2])
  expect([...work.outstanding]).toEqual([0, 2])
  expect(work.next(9)).toEqual([3, 4])
  expect(work.next(-1)).toEqual([])
})

test('a shard that is done before its send is acknowledged is not outstanding', () => {
  const work = new BatchWork()
  work.plan(shards(2), 2)
  const sent = work.next(2)
  work.finish(0, done)
  work.markSent(sent)
  expect([...work.outstanding]).toEqual([1])
})

test('is complete when the plan is and every shard is done', () => {
  const work = new BatchWork()
  work.plan(shards(2), 2)
  work.finish(0, done)
  work.finish(1, done)
  expect(work.complete).toBe(false)
  work.planned = true
  expect(work.complete).toBe(true)
  expect(work.finish(1, done)).toBe(false)
  expect(work.tally).toMatchObject({ completed: 2, pruneRatioSum: 1 })
})

test('goes on where another planner was', () => {
  const before = new BatchWork()
  before.plan(shards(6), 6)
  before.markSent(before.next(4))
  before.finish(0, done)
  before.finish(2, done)
  const work = new BatchWork(JSON.parse(JSON.stringify(before.toState())))
  expect([...work.outstanding]).toEqual([1, 3])
  expect(work.lines).toBe(6)
  expect(work.tally.completed).toBe(2)
  expect(work.next(9)).toEqual([])
  work.plan(shards(6), 3)
  expect(work.lines).toBe(6)
  expect(work.next(9)).toEqual([4, 5])
  expect([...work.missing()]).toEqual([1, 3, 4, 5])
})
