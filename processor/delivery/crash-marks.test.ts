import { expect, test } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import { withCrashMarks } from './crash-marks.ts'
import { withDeadLetters } from './dead-letters.ts'
import { consumed, FakeSender } from './record.fixture.ts'

const signal = new AbortController().signal
const startedAt = 1000
const old = consumed({ key: 'old' }, { offset: 7n, timestamp: 500 })
const never = () => new Promise<void>(() => {})
const settle = () => new Promise((resolve) => setImmediate(resolve))

const { store, objects } = memoryStore()
const start = (handle: (record: ConsumedRecord) => Promise<void>, maxCrashes?: number) =>
  withCrashMarks({ handle }, { store, maxCrashes, now: () => startedAt })

/** A process that is killed while it handles the record. */
async function crash(record = old) {
  void start(never).handle(record, signal)
  await settle()
}

test('a record that is newer than the process costs nothing', async () => {
  void start(never).handle({ ...old, timestamp: startedAt }, signal)
  await settle()
  expect(objects.size).toBe(0)
})

test('an older one has a mark while it is handled, and none afterwards, however that ends', async () => {
  const seen: number[] = []
  const look = async () => void seen.push(objects.size)
  await start(look).handle(old, signal)
  const failing = start(async () => {
    await look()
    throw new Error('no')
  })
  await expect(failing.handle(old, signal)).rejects.toThrow('no')
  expect([seen, objects.size]).toEqual([[1, 1], 0])
})

test('one that took its process along again and again is given up', async () => {
  for (let i = 0; i < 3; i++) await crash()
  let handled = 0
  const handler = start(async () => void handled++, 3)
  const sender = new FakeSender()
  await withDeadLetters(handler, { stream: sender })(old, signal)
  expect(handled).toBe(0)
  expect(sender.sent).toMatchObject([{ record: { headers: { cause: /died 3 times/ } } }])
  expect(objects.size).toBe(0)
})

test('suspects run one at a time, so that the next death tells which it was', async () => {
  const records = [1n, 2n, 3n].map((offset) => ({ ...old, offset }))
  for (let i = 0; i < 2; i++) for (const record of records) await crash(record)
  let running = 0
  let most = 0
  const handler = start(async () => {
    most = Math.max(most, ++running)
    await settle()
    running--
  })
  await Promise.all(records.map((record) => handler.handle(record, signal)))
  expect([most, objects.size]).toEqual([1, 0])
})

test('a record of another topic with the same offset is another record', async () => {
  for (let i = 0; i < 3; i++) await crash()
  let handled = 0
  const handler = start(async () => void handled++, 3)
  await handler.handle({ ...old, topic: 'another' }, signal)
  await handler.handle({ ...old, timestamp: 501 }, signal)
  expect(handled).toBe(2)
})
