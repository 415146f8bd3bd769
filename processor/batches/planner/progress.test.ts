import fc from 'fast-check'
import { expect, test } from 'vitest'
import { emptyTally } from '../../../edge/contract/shard.ts'
import { BatchWork, RepayWork, ShardSet } from './progress.ts'

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

test('is a set of numbers, also after being kept', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 1000 })), (shards) => {
      const set = new ShardSet()
      const expected = new Set<number>()
      for (const shard of shards) {
        expect(set.add(shard)).toBe(!expected.has(shard))
        expected.add(shard)
      }
      let firstMissing = 0
      while (expected.has(firstMissing)) firstMissing++
      for (const same of [set, ShardSet.parse(set.toString())]) {
        expect(same.firstMissing).toBe(firstMissing)
        expect(same.end).toBe(Math.max(-1, ...expected) + 1)
        for (let shard = 0; shard <= 1001; shard++) expect(same.has(shard)).toBe(expected.has(shard))
      }
    }),
    { numRuns: 50 },
  )
})

const tally = { ...emptyTally, completed: 10, pruned: 10 }
const until = 1000

function askedFor(...shards: number[]): RepayWork {
  const work = new RepayWork()
  for (const shard of [1, 4, 7]) work.add(shard)
  for (const shard of shards) work.ask({ shard, until, tally })
  return work
}

test('there is nothing to do without pruned lines', () => {
  const work = new RepayWork()
  expect([work.open, work.begun, work.next(9), work.toState()]).toEqual([false, false, [], undefined])
})

test('each shard is asked for once, lowest first', () => {
  const work = askedFor()
  expect(work.next(2)).toEqual([1, 4])
  work.ask({ shard: 1, until, tally })
  expect([work.next(9), work.asked, work.begun]).toEqual([[4, 7], 1, true])
})

test('a shard is settled when all of its lines were tried, however many could be repaid', () => {
  const work = askedFor(1, 4, 7)
  for (const shard of [1, 4, 7]) {
    expect(work.open).toBe(true)
    expect(work.answer(shard, { ...tally, pruned: shard, repaid: 10 - shard }, 0)).toBe(tally)
  }
  expect([work.open, work.asked, work.next(9)]).toEqual([false, 0, []])
})

test('a shard with lines that were not tried is asked for again', () => {
  const work = askedFor(4)
  const partly = { ...tally, pruned: 6, repaid: 4 }
  expect(work.answer(4, partly, 6)).toBe(tally)
  expect(work.next(9)).toEqual([1, 4, 7])
  work.ask({ shard: 4, until, tally: partly })
  // What was said before the last answer changes nothing.
  expect(work.answer(4, { ...tally, repaid: 2 }, 0)).toBeUndefined()
  expect(work.asked).toBe(1)
})

test('a shard that is gone needs nothing, whether it was asked for or not', () => {
  const work = askedFor(4)
  for (const shard of [1, 4, 7]) work.settle(shard)
  expect([work.open, work.asked, work.overdue(2 * until), work.next(9)]).toEqual([false, 0, [], []])
})

test('an answer that nobody waits for is none', () => {
  const work = askedFor(4)
  expect(work.answer(1, tally, 0)).toBeUndefined()
  work.answer(4, tally, 0)
  expect(work.answer(4, tally, 0)).toBeUndefined()
})

test('a shard is overdue when nothing of it can be written any more', () => {
  const work = askedFor(4)
  expect([work.overdue(until), work.overdue(until + 1)]).toEqual([[], [4]])
})

test('goes on where another planner was', () => {
  const before = askedFor(4)
  before.ask({ shard: 7, until, tally })
  before.answer(7, tally, 0)
  const work = new RepayWork(JSON.parse(JSON.stringify(before.toState())))
  expect([work.open, work.asked, work.next(9), work.overdue(2 * until)]).toEqual([true, 1, [1], [4]])
  expect(work.answer(4, tally, 0)).toEqual(tally)
})
