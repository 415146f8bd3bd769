import { expect, test } from 'vitest'
import { emptyTally } from './progress.ts'
import { RepayWork } from './repay-work.ts'

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
