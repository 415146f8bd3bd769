import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { chmod, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { openSqliteStream } from './sqlite.ts'
import { describeStream, eventually } from './stream.contract.ts'
import { type Stream, StreamOpenError, UnknownTopicError } from './stream.ts'

describeStream('SQLite stream', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'turbine-stream-'))
  const open = () => openSqliteStream({ path: join(directory, 'stream.db') })
  let stream = await open()
  return {
    stream,
    reopen: async () => {
      await stream.close()
      stream = await open()
      return stream
    },
    dispose: async () => {
      await stream.close()
      await rm(directory, { recursive: true })
    },
  }
})

let directory: string
let path: string
const opened: Stream[] = []
const openStream = async () => {
  const stream = await openSqliteStream({ path })
  opened.push(stream)
  return stream
}

beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'turbine-stream-'))
  path = join(directory, 'data', 'stream.db')
})
afterEach(async () => {
  for (const stream of opened.splice(0)) await stream.close()
  await rm(directory, { recursive: true })
})

/** Runs the fixture, kills it after `count` acknowledged records; the keys that were acknowledged. */
async function sendUntilKilled(count: number): Promise<string[]> {
  const fixture = fileURLToPath(new URL('./fixtures/send-forever.ts', import.meta.url))
  const child = spawn(process.execPath, [fixture, path], { stdio: ['ignore', 'pipe', 'inherit'] })
  const exit = once(child, 'exit')
  const acknowledged: string[] = []
  for await (const line of createInterface({ input: child.stdout })) {
    acknowledged.push(line)
    if (acknowledged.length === count) child.kill('SIGKILL')
  }
  await exit
  return acknowledged
}

test('delivers everything acknowledged after the process was killed', async () => {
  const acknowledged = await sendUntilKilled(60)
  expect(acknowledged.length).toBeGreaterThanOrEqual(60)
  const stream = await openStream()
  const received: string[] = []
  const handle = async ({ key, value }: { key: string; value: Uint8Array }) => {
    expect(value).toEqual(new Uint8Array(20_000).fill(Number(key)))
    received.push(key)
  }
  await stream.consume({ topic: 'jobs', group: 'other', maxInFlight: 8, handle })
  await eventually(async () => expect(await stream.lag('jobs', 'other')).toBe(0))
  expect(new Set(received).size).toBe(received.length)
  expect(received).toEqual(expect.arrayContaining(acknowledged))
})

test('delivers to the killed group again what it had not finished', async () => {
  const acknowledged = await sendUntilKilled(60)
  const stream = await openStream()
  const received: string[] = []
  const handle = async ({ key }: { key: string }) => void received.push(key)
  await stream.consume({ topic: 'jobs', group: 'crashing', maxInFlight: 8, handle })
  await eventually(async () => expect(await stream.lag('jobs', 'crashing')).toBe(0))
  const unfinished = acknowledged.filter((key) => Number(key) % 2 === 1)
  expect(received).toEqual(expect.arrayContaining(unfinished))
})

test('a file that is in use is refused in one line that says what to do', async () => {
  await openStream()
  const second = openStream()
  await expect(second).rejects.toThrow(StreamOpenError)
  await expect(second).rejects.toThrow(`${path} is in use by another process. Stop it, or give`)
})

test('a file that is no stream is refused and kept', async () => {
  path = join(directory, 'notes.txt')
  await writeFile(path, 'not a database, but somebody needs it'.repeat(100))
  const stream = openStream()
  await expect(stream).rejects.toThrow(StreamOpenError)
  await expect(stream).rejects.toThrow('file is not a database')
})

test('a folder that cannot be created is refused', async () => {
  await writeFile(join(directory, 'data'), '')
  await expect(openStream()).rejects.toThrow(StreamOpenError)
})

test('a topic that was not created is named', async () => {
  const stream = await openStream()
  await expect(stream.send('jobs', [])).rejects.toThrow(UnknownTopicError)
  await expect(stream.lag('jobs', 'g')).rejects.toThrow('Unknown topic "jobs"')
})

test('deletes committed records past their retention, and no others', async () => {
  let time = 1_000_000
  const stream = await openSqliteStream({ path, retentionMs: 1000, pruneIntervalMs: 5, now: () => time })
  opened.push(stream)
  await stream.ensureTopics({ jobs: { partitions: 1 } })
  const send = (key: string) => stream.send('jobs', [{ key, value: new Uint8Array(1), headers: {} }])
  await send('old')
  const consumer = await stream.consume({ topic: 'jobs', group: 'g', maxInFlight: 1, handle: async () => {} })
  await eventually(async () => expect(await stream.lag('jobs', 'g')).toBe(0))
  await consumer.close()
  time += 2000
  await send('new')
  await eventually(async () => expect(await stream.lag('jobs', 'unknown')).toBe(1))
})

test.skipIf(process.platform === 'win32')('its files and its folder are closed to other users', async () => {
  await mkdir(join(directory, 'data'), { mode: 0o755 })
  await writeFile(path, '', { mode: 0o644 })
  await chmod(path, 0o644)
  const stream = await openStream()
  await stream.ensureTopics({ jobs: { partitions: 1 } })
  const folder = join(directory, 'data')
  const names = await readdir(folder)
  const modes = await Promise.all(names.map(async (name) => (await stat(join(folder, name))).mode & 0o777))
  expect((await stat(folder)).mode & 0o777).toBe(0o700)
  expect(new Set(modes)).toEqual(new Set([0o600]))
})
