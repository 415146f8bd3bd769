import { expect, test, vi } from 'vitest'
import { memoryStore } from '../../infra/store/memory.fixture.ts'
import { StoreUnavailableError } from '../../infra/store/store.ts'
import type { ConsumedRecord } from '../../infra/stream/stream.ts'
import { withCrashMarks } from './crash-marks.ts'
import { withDeadLetters } from './dead-letters.ts'
import { Isolation } from './isolation.ts'
import { consumed, FakeSender } from './record.fixture.ts'

const { signal } = new AbortController()
const startedAt = 1000
const never = () => new Promise<void>(() => {})
const settle = () => new Promise((resolve) => setTimeout(resolve, 5))
const recordAt = (offset: number) =>
  consumed({ key: String(offset) }, { offset: BigInt(offset), timestamp: 500 })
const old = recordAt(7)

type Handle = (record: ConsumedRecord) => Promise<void>

const markIn = ({ keys, get }: ReturnType<typeof memoryStore>['objects']) =>
  JSON.parse(new TextDecoder().decode(get(keys()[0] ?? '')) || '{}')

function world() {
  const { store, objects } = memoryStore()
  const process = (handle: Handle, { holdMs = 60_000, isolation = new Isolation() } = {}) =>
    withCrashMarks({ handle }, { store, isolation, holdMs, now: () => startedAt })

  /**
   * Starts processes that handle these records together, until none dies; `kills` makes one die. Returns how many died,
   * and the records that were given up.
   */
  async function runUntilAlive(records: ConsumedRecord[], kills: (key: string) => boolean) {
    const done = new Set<string>()
    const given = new Set<string>()
    for (let deaths = 1; ; deaths++) {
      const death = Promise.withResolvers<'died'>()
      const isDead = () => dead
      let dead = false
      const handler = process(async ({ key }) => {
        if (isDead()) return never()
        await settle()
        if (isDead()) return never()
        if (!kills(key)) return void done.add(key)
        dead = true
        death.resolve('died')
        return never()
      })
      const left = records.filter(({ key }) => !done.has(key) && !given.has(key))
      const all = left.map((record) =>
        handler.handle(record, signal).catch((error) => {
          expect(error.code).toBe('process_killed')
          given.add(record.key)
        }),
      )
      const end = await Promise.race([death.promise, Promise.all(all)])
      if (end !== 'died') return { deaths: deaths - 1, given: [...given] }
    }
  }
  return { store, objects, process, runUntilAlive }
}

test('a record that is newer than the process costs nothing', async () => {
  const { process, objects } = world()
  void process(never).handle({ ...old, timestamp: startedAt }, signal)
  await settle()
  expect(objects.size).toBe(0)
})

test('one that another process may have had is marked, also if it is newer than this process', async () => {
  const { process, objects } = world()
  void process(never).handle({ ...old, timestamp: startedAt + 5, ownedSince: startedAt + 10 }, signal)
  await settle()
  expect(objects.size).toBe(1)
})

test('an older one has a mark while it is handled, and none afterwards, however that ends', async () => {
  const { process, objects } = world()
  const seen: number[] = []
  const look = async () => void seen.push(objects.size)
  await process(look).handle(old, signal)
  const failing = process(async () => {
    await look()
    throw new Error('no')
  })
  await expect(failing.handle(old, signal)).rejects.toThrow('no')
  expect([seen, objects.size]).toEqual([[1, 1], 0])
})

test('one that killed processes alone is given up: two marked deaths, after one that left no mark', async () => {
  const { process, objects, runUntilAlive } = world()
  expect(await runUntilAlive([old], () => true)).toEqual({ deaths: 2, given: ['7'] })
  const sender = new FakeSender()
  await withDeadLetters(process(never), { stream: sender })(old, signal)
  expect(sender.sent[0]?.record.headers.cause).toMatch(/crashed 3 times/)
  expect(objects.size).toBe(0)
})

test.each([0, 3, 9])(
  'of ten that were in hand, only the guilty one is given up, be it the %ith',
  async (guilty) => {
    const { runUntilAlive, objects } = world()
    const records = Array.from({ length: 10 }, (_, i) => recordAt(i))
    const { deaths, given } = await runUntilAlive(records, (key) => key === String(guilty))
    expect(given).toEqual([String(guilty)])
    expect(deaths).toBeLessThanOrEqual(3)
    expect(objects.size).toBe(1)
  },
)

test('a death beside another record does not tell', async () => {
  const { process, store, objects } = world()
  for (let i = 0; i < 5; i++) {
    const isolation = new Isolation()
    const handler = process(never, { holdMs: 0, isolation })
    void handler.handle(old, signal)
    await vi.waitFor(() => expect(markIn(objects)).toEqual({ crashes: i + 1, alone: 1 }))
    // As new requests do, it has waited, and begins all the same.
    void handler.handle({ ...recordAt(8), timestamp: startedAt }, signal)
    await vi.waitFor(() => expect(markIn(objects)).toEqual({ crashes: i + 1, alone: 0 }))
  }
  let handled = 0
  await process(async () => void handled++).handle(old, signal)
  expect(handled).toBe(1)
  expect(objects.size).toBe(0)
  await store.close()
})

test('one that never ran alone is given up after ten deaths', async () => {
  const { process, objects } = world()
  for (let i = 0; i < 10; i++) {
    const isolation = new Isolation()
    void isolation.beside(never, signal)
    void process(never, { holdMs: 0, isolation }).handle(old, signal)
    await vi.waitFor(() => expect(markIn(objects).crashes).toBe(i + 1))
  }
  await expect(process(never).handle(old, signal)).rejects.toMatchObject({ code: 'process_killed' })
})

test('suspects run with nothing beside them, and new records wait', async () => {
  const { process } = world()
  const records = [1, 2, 3].map(recordAt)
  const crashing = process(never)
  for (const record of records) void crashing.handle(record, signal)
  await settle()
  let running = 0
  let most = 0
  const handler = process(async () => {
    most = Math.max(most, ++running)
    await settle()
    running--
  })
  const newer = { ...recordAt(4), timestamp: startedAt }
  await Promise.all([...records, newer].map((record) => handler.handle(record, signal)))
  expect(most).toBe(1)
})

test('an outage of the store, however often it is met, is no death', async () => {
  const { process, store, objects } = world()
  const { put, get } = store
  const handler = process(async () => {
    throw new StoreUnavailableError('The store is away.')
  })
  const away = () => Promise.reject(new StoreUnavailableError('The store is away.'))
  for (let i = 0; i < 20; i++) {
    const attempt = handler.handle(old, signal)
    store.delete = away
    await expect(attempt).rejects.toBeInstanceOf(StoreUnavailableError)
  }
  expect([put, get]).toEqual([store.put, store.get])
  expect(markIn(objects)).toMatchObject({ crashes: 1 })
})

test('a shutdown is no death, and forgets none', async () => {
  const { process, objects } = world()
  void process(never).handle(old, signal)
  await settle()
  for (let i = 0; i < 5; i++) {
    const closing = new AbortController()
    const stopped = process(async () => {
      closing.abort()
      throw new Error('closing')
    })
    await expect(stopped.handle(old, closing.signal)).rejects.toThrow('closing')
  }
  expect(markIn(objects)).toEqual({
    crashes: 1,
    alone: 1,
  })
})

test('a copy that was sent again shares the deaths of the first; it is another record in another topic', async () => {
  const { process, runUntilAlive } = world()
  await runUntilAlive([old], () => true)
  const copy = { ...old, offset: 9n, timestamp: 501 }
  await expect(process(never).handle(copy, signal)).rejects.toMatchObject({ code: 'process_killed' })
  let handled = 0
  await process(async () => void handled++).handle({ ...old, topic: 'another' }, signal)
  expect(handled).toBe(1)
})
