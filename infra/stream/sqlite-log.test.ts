import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { NewerSchemaError, SqliteLog } from './sqlite-log.ts'

let directory: string
let path: string
let log: SqliteLog

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'turbine-log-'))
  path = join(directory, 'stream.db')
  log = new SqliteLog(path)
  log.ensureTopics({ jobs: { partitions: 2, retentionMs: 100 } })
})
afterEach(() => {
  log.close()
  rmSync(directory, { recursive: true })
})

const topic = 'jobs'
const recordAt = (timestamp: number, partition = 0, bytes = 1) => ({
  partition,
  timestamp,
  key: 'k',
  headers: '{}',
  value: new Uint8Array(bytes),
})
const offsets = (limit = 100, maxBytes = 1e9) =>
  log.read({ topic, partition: 0, from: 0, limit, maxBytes }).map(({ offset }) => offset)

test('counts the offsets of each partition from 0, without gaps', () => {
  expect(log.append({ topic, records: [recordAt(1), recordAt(1, 1), recordAt(1)] })).toEqual([
    { partition: 0, end: 2 },
    { partition: 1, end: 1 },
  ])
  expect(log.append({ topic, records: [recordAt(2)] })).toEqual([{ partition: 0, end: 3 }])
  expect(offsets()).toEqual([0, 1, 2])
})

test('a transaction that fails leaves nothing behind', () => {
  const failing = () =>
    log.transaction(() => {
      log.append({ topic, records: [recordAt(1)] })
      throw new Error('no')
    })
  expect(failing).toThrow('no')
  expect(offsets()).toEqual([])
  expect(log.append({ topic, records: [recordAt(1)] })).toEqual([{ partition: 0, end: 1 }])
})

test('a read ends at its limit, or with the record that reaches its bytes', () => {
  log.append({ topic, records: [1, 2, 3, 4].map((timestamp) => recordAt(timestamp, 0, 10)) })
  expect(offsets(3)).toEqual([0, 1, 2])
  expect(offsets(4, 11)).toEqual([0, 1])
})

test('deletes old records that all groups have committed', () => {
  log.append({ topic, records: [10, 20, 30, 40].map((timestamp) => recordAt(timestamp)) })
  const commit = (group: string, position: number) =>
    log.commit({ topic, group, positions: [{ partition: 0, position }] })
  expect(log.prune({ now: 1000 })).toBe(0)
  for (const group of ['a', 'b']) log.join({ topic, group })
  commit('a', 4)
  expect(log.prune({ now: 1000 })).toBe(0)
  commit('b', 3)
  expect(log.prune({ now: 119 })).toBe(1)
  expect(log.prune({ now: 1000, limit: 1 })).toBe(1)
  expect(offsets()).toEqual([2, 3])
  expect(log.prune({ now: 1000 })).toBe(1)
  expect(offsets()).toEqual([3])
})

test('offsets go on after everything was deleted, also in a new process', () => {
  log.join({ topic, group: 'a' })
  log.append({ topic, records: [recordAt(1)] })
  log.commit({ topic, group: 'a', positions: [{ partition: 0, position: 1 }] })
  expect(log.prune({ now: 1000 })).toBe(1)
  log.close()
  log = new SqliteLog(path)
  expect(log.append({ topic, records: [recordAt(1)] })).toEqual([{ partition: 0, end: 2 }])
  expect(log.join({ topic, group: 'late' })[0]).toEqual({ partition: 0, position: 1, end: 2 })
})

test('a group that joins again keeps its positions', () => {
  log.append({ topic, records: [recordAt(1), recordAt(2)] })
  log.join({ topic, group: 'a' })
  log.commit({ topic, group: 'a', positions: [{ partition: 0, position: 1 }] })
  expect(log.join({ topic, group: 'a' })).toEqual([
    { partition: 0, position: 1, end: 2 },
    { partition: 1, position: 0, end: 0 },
  ])
})

test('reuses the space of deleted records', () => {
  log.join({ topic, group: 'a' })
  const fileBytes = () => {
    for (let i = 0; i < 10; i++) log.append({ topic, records: [recordAt(1, 0, 100_000)] })
    const { end } = log.join({ topic, group: 'a' })[0]!
    log.commit({ topic, group: 'a', positions: [{ partition: 0, position: end }] })
    log.prune({ now: 1000 })
    log.close()
    log = new SqliteLog(path)
    return statSync(path).size
  }
  const first = fileBytes()
  for (let i = 0; i < 5; i++) fileBytes()
  expect(fileBytes()).toBeLessThanOrEqual(first * 1.1)
})

test('a file of a newer version is refused', () => {
  log.close()
  const database = new DatabaseSync(path)
  database.exec('PRAGMA user_version = 99')
  database.close()
  expect(() => new SqliteLog(path)).toThrow(NewerSchemaError)
  const restored = new DatabaseSync(path)
  restored.exec('PRAGMA user_version = 1')
  restored.close()
  log = new SqliteLog(path)
})
