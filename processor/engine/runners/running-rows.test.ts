import { expect, test } from 'vitest'
import { greedy } from '../../models/generation.ts'
import type { FailedRows, MadeIds, PartTime, RunRow } from '../batch.ts'
import { RunningRows } from './running-rows.ts'

const row = (maxTokens: number, more: Partial<RunRow> = {}): RunRow => ({
  ...{ pictures: [], prompt: { ids: [1], places: [] }, settings: greedy(maxTokens) },
  ...more,
})

function scene() {
  const made: MadeIds[] = []
  const times: PartTime[] = []
  const failed: FailedRows[] = []
  const rows = new RunningRows([9], {
    onMade: (each) => made.push(each),
    onTime: (each) => times.push(each),
    onFailed: (each) => failed.push(each),
  })
  return { rows, made, times, failed }
}

test.each<[number[], number]>([
  [[100], 16],
  [[100, 7], 7],
  [[100, 2], 4],
  [[1], 4],
])('rows with at most %j ids run for %i of them', (most, steps) => {
  const { rows } = scene()
  rows.add(
    most.map((maxTokens) => row(maxTokens)),
    0,
  )
  expect(rows.chunk(most.map((_, number) => number))).toBe(steps)
})

test('where a caller reads along, few', () => {
  const { rows } = scene()
  rows.add([row(100), row(100, { streamed: true })], 0)
  expect(rows.chunk([0, 1])).toBe(4)
  expect(rows.chunk([0])).toBe(16)
})

test('rows keep their indexes in the whole batch where some before them could not begin', () => {
  const { rows, made, times, failed } = scene()
  rows.add([row(5)], 30)
  rows.timed({ rows: [0], first: true, ids: 1, ms: 10 })
  rows.refuse([row(5), row(5)], new Error('no memory'))
  rows.add([row(5), row(5)], 20)
  rows.timed({ rows: [1, 2], first: true, ids: 1, ms: 10 })
  rows.timed({ rows: [0, 1, 2], first: false, ids: 4, ms: 8 })
  expect(rows.made(1, [4, 9])).toBe(true)
  rows.failed([2], 'not readable')
  expect(failed).toEqual([
    { rows: [1, 2], reason: 'no memory' },
    { rows: [4], reason: 'not readable' },
  ])
  expect(made).toEqual([{ row: 3, ids: [4, 9], ended: true }])
  expect(times).toEqual([
    { rows: [0], steps: 0, ms: 40 },
    { rows: [3, 4], steps: 0, ms: 30 },
    { rows: [0, 3, 4], steps: 4, ms: 8 },
  ])
})

test('a row that nobody waits for leaves, and one with all its ids has ended', () => {
  const { rows, made } = scene()
  const leaves = new Int32Array(new SharedArrayBuffer(4))
  rows.add([row(5, { leaves }), row(2)], 0)
  expect(rows.made(0, [1])).toBe(true)
  Atomics.store(leaves, 0, 1)
  expect(rows.made(0, [2])).toBe(false)
  expect(rows.made(1, [3, 4])).toBe(true)
  expect(made).toEqual([
    { row: 0, ids: [1] },
    { row: 0, ids: [1, 2], ended: false },
    { row: 1, ids: [3, 4], ended: false },
  ])
})
