import { expect, test } from 'vitest'
import { SimulatedBatch } from './batch-load.ts'

const takeAll = (batch: SimulatedBatch, now = 0) => {
  const shards = []
  for (let shard = batch.take(now); shard; shard = batch.take(now)) shards.push(shard)
  return shards
}

test('a batch is cut into shards of at most 256 lines, to be had from its start on', () => {
  const batch = new SimulatedBatch({ lines: 600, at: 5, windowMs: 100 }, 3)
  expect(batch.take(4)).toBeUndefined()
  expect(
    takeAll(batch, 5)
      .map(({ lines }) => lines)
      .sort(),
  ).toEqual([256, 256, 88])
})

test('lines count when their shard is done, and the batch is done with its last shard', () => {
  const batch = new SimulatedBatch({ lines: 300, windowMs: 100 }, 3)
  const [first, second] = takeAll(batch)
  for (const shard of [first!, second!])
    for (let line = 0; line < shard.lines - 1; line++) batch.lineDone(shard, 0, 10)
  expect(batch).toMatchObject({ linesDone: 0, doneAt: undefined })
  batch.lineDone(first!, 2, 20)
  expect(batch.backlog.linesLeft).toBe(300 - first!.lines)
  batch.lineDone(second!, 1, 30)
  expect(batch).toMatchObject({ linesDone: 300, doneAt: 30, linesAtLevel: [298, 1, 1] })
})

test('a shard that is given back begins anew, and what was done of it does not count', () => {
  const batch = new SimulatedBatch({ lines: 3, windowMs: 100 }, 2)
  const shard = batch.take(0)!
  batch.lineDone(shard, 1, 10)
  batch.giveBack(shard)
  const again = batch.take(0)!
  for (let line = 0; line < 3; line++) batch.lineDone(again, 0, 20)
  expect(batch).toMatchObject({ linesDone: 3, linesAtLevel: [3, 0] })
})
