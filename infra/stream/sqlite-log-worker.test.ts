import { EventEmitter, once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { afterAll, beforeAll, expect, test, vi } from 'vitest'

const folder = await mkdtemp(join(tmpdir(), 'turbine-log-'))

/** What the worker does, in order: its SQL, and the answers that it posts. */
const events: string[] = []

class Port extends EventEmitter {
  postMessage(message: unknown): void {
    if (!Array.isArray(message)) return
    for (const answer of message) {
      events.push(`answer ${answer.id}`)
      this.emit('answer', answer)
    }
  }

  close(): void {}
}

const port = new Port()

vi.mock('node:worker_threads', () => ({ parentPort: port, workerData: join(folder, 'log.db') }))

vi.mock('node:fs', async (original) => {
  const fs = await original<typeof import('node:fs')>()
  const fdatasync = (file: number, callback: (error: Error | null) => void) => {
    events.push('sync')
    fs.fdatasync(file, (error) => {
      events.push('synced')
      callback(error)
    })
  }
  const fdatasyncSync: typeof fs.fdatasyncSync = (file) => {
    events.push('synced')
    fs.fdatasyncSync(file)
  }
  return {
    ...fs,
    fdatasync,
    fdatasyncSync,
  }
})

let lastId = 0

function ask(method: string, input?: unknown): number {
  port.emit('message', [{ id: ++lastId, method, input }])
  return lastId
}

async function call(method: string, input?: unknown): Promise<string[]> {
  events.length = 0
  ask(method, input)
  const [answer] = await once(port, 'answer')
  expect(answer).toHaveProperty('output')
  return [...events]
}

const record = { partition: 0, timestamp: 1, key: 'a', headers: '{}', value: new Uint8Array(1) }
const records = { topic: 'jobs', records: [record] }

beforeAll(async () => {
  const exec = DatabaseSync.prototype.exec
  vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (this: DatabaseSync, sql) {
    if (sql === 'COMMIT') events.push(sql)
    return exec.call(this, sql)
  })
  await import('./sqlite-log-worker.ts')
  await call('ensureTopics', { jobs: { partitions: 1, retentionMs: 1 } })
  await call('join', { topic: 'jobs', group: 'g' })
})

afterAll(() => rm(folder, { recursive: true }))

test('records are on the disk before a send is acknowledged', async () => {
  expect(await call('append', records)).toEqual(['COMMIT', 'sync', 'synced', `answer ${lastId}`])
})

test('a commit of positions does not wait for the disk: its records come again', async () => {
  const log = await call('commit', { topic: 'jobs', group: 'g', positions: [{ partition: 0, position: 1 }] })
  expect(log).toEqual(['COMMIT', `answer ${lastId}`])
})

test('what nobody would miss does not wait for the disk, nor for the sync of another', async () => {
  events.length = 0
  const durable = ask('append', records)
  const unsynced = ask('append', { ...records, unsynced: true })
  await vi.waitFor(() => expect(events).toContain(`answer ${durable}`))
  expect(events).toEqual(['COMMIT', `answer ${unsynced}`, 'sync', 'synced', `answer ${durable}`])
})

test('writes during a sync share the next one', async () => {
  events.length = 0
  const first = ask('append', records)
  await vi.waitFor(() => expect(events).toContain('sync'))
  const later = [ask('append', records), ask('append', { topic: '', records: [] })]
  await vi.waitFor(() => expect(events).toContain(`answer ${later[1]}`))
  expect(events.filter((event) => event === 'sync')).toHaveLength(2)
  expect(events.indexOf(`answer ${first}`)).toBeLessThan(events.indexOf(`answer ${later[0]}`))
})

test('closing syncs and answers what is still to be synced', async () => {
  events.length = 0
  const first = ask('append', records)
  await vi.waitFor(() => expect(events).toContain('sync'))
  const second = ask('append', records)
  const close = ask('close')
  await vi.waitFor(() => expect(events).toContain(`answer ${close}`))
  const answers = events.filter((event) => event.startsWith('answer'))
  expect(answers).toEqual([`answer ${first}`, `answer ${second}`, `answer ${close}`])
  expect(events.lastIndexOf('synced')).toBeGreaterThan(events.lastIndexOf('COMMIT'))
})
