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
  postMessage(message: { id?: number }): void {
    if (message.id === undefined) return
    events.push(`answer ${message.id}`)
    this.emit('answer', message)
  }

  close(): void {}
}

const port = new Port()

vi.mock('node:worker_threads', () => ({ parentPort: port, workerData: join(folder, 'log.db') }))

let lastId = 0

async function call(method: string, input?: unknown): Promise<string[]> {
  events.length = 0
  port.emit('message', { id: ++lastId, method, input })
  const [answer] = await once(port, 'answer')
  expect(answer).toHaveProperty('output')
  return [...events]
}

beforeAll(async () => {
  const exec = DatabaseSync.prototype.exec
  vi.spyOn(DatabaseSync.prototype, 'exec').mockImplementation(function (this: DatabaseSync, sql) {
    const [what] = /synchronous = \w+|^COMMIT/.exec(sql) ?? []
    if (what) events.push(what)
    return exec.call(this, sql)
  })
  await import('./sqlite-log-worker.ts')
  await call('ensureTopics', { jobs: { partitions: 1, retentionMs: 1 } })
})

afterAll(async () => {
  await call('close')
  await rm(folder, { recursive: true })
})

test('records are synced to the disk before a send is acknowledged', async () => {
  const record = { partition: 0, timestamp: 1, key: 'a', headers: '{}', value: new Uint8Array(1) }
  const log = await call('append', { topic: 'jobs', records: [record] })
  expect(log).toEqual(['synchronous = FULL', 'COMMIT', `answer ${lastId}`])
})

test('a commit of positions does not wait for the disk: its records come again', async () => {
  await call('join', { topic: 'jobs', group: 'g' })
  const log = await call('commit', { topic: 'jobs', group: 'g', positions: [{ partition: 0, position: 1 }] })
  expect(log).toEqual(['synchronous = NORMAL', 'COMMIT', `answer ${lastId}`])
})
