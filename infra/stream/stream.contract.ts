import { randomBytes, randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { type ConsumedRecord, type Stream, type StreamRecord, StreamUnavailableError } from './stream.ts'

/** Waits until the expectations hold; the time is for a broker on a busy machine. */
export function eventually(expectations: () => void | Promise<void>): Promise<void> {
  return vi.waitFor(expectations, { timeout: 30_000, interval: 5 })
}

/** One stream under test. */
export interface StreamUnderTest {
  stream: Stream
  /** Closes the stream and opens it again on the same data, as a restart does. */
  reopen(): Promise<Stream>
  /** Closes the stream and removes its data. */
  dispose(): Promise<void>
}

/**
 * What every Stream promises. Topics and groups have fresh names in each test, so that the suite can run against
 * a broker that other tests use.
 */
export function describeStream(name: string, makeStream: () => Promise<StreamUnderTest>): void {
  describe(name, () => {
    let tested: StreamUnderTest
    let stream: Stream
    let topic: string
    let group: string

    beforeEach(async () => {
      tested = await makeStream()
      stream = tested.stream
      topic = `turbine.test-${randomUUID()}`
      group = `turbine-test-${randomUUID()}`
    })
    afterEach(() => tested.dispose())

    /** Consumes with a handler that fulfils at once; the records handled so far. */
    const collect = async (into: ConsumedRecord[] = [], as = group) => {
      const handle = async (record: ConsumedRecord) => void into.push(record)
      const consumer = await stream.consume({ topic, group: as, maxInFlight: 16, handle })
      return { records: into, close: () => consumer.close() }
    }

    test('delivers records as they were sent', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 2 } })
      const before = Date.now()
      const backing = randomBytes(3000)
      const sent: StreamRecord[] = [
        { key: 'empty', value: new Uint8Array(0), headers: {} },
        {
          key: 'view',
          value: backing.subarray(1000, 2000),
          headers: { prompt: 'un café – 日本 🐟', tenant: '' },
        },
        { key: 'large', value: randomBytes(600_000), headers: { deadline: '1' } },
      ]
      await stream.send(topic, sent)
      const { records } = await collect()
      await eventually(() => expect(records).toHaveLength(3))
      for (const expected of sent) {
        const record = records.find(({ key }) => key === expected.key)!
        expect(Buffer.compare(record.value, expected.value)).toBe(0)
        expect(record.headers).toEqual(expected.headers)
        expect(record.topic).toBe(topic)
        expect(record.timestamp).toBeGreaterThanOrEqual(before)
        expect(record.timestamp).toBeLessThanOrEqual(Date.now())
      }
    })

    test('peek shows what a group has not committed, and takes nothing', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 2, groups: [group] } })
      await stream.send(topic, [recordOf('a'), recordOf('b')])
      const first = await collect()
      await eventually(async () => expect(await stream.lag(topic, group)).toBe(0))
      await first.close()
      await stream.send(topic, [recordOf('c'), recordOf('d'), recordOf('e')])
      for (let i = 0; i < 2; i++)
        expect(keysOf(await stream.peek(topic, group, 10)).sort()).toEqual(['c', 'd', 'e'])
      expect((await stream.peek(topic, group, 1)).length).toBeLessThan(3)
      const second = await collect()
      await eventually(() => expect(keysOf(second.records).sort()).toEqual(['c', 'd', 'e']))
    })

    test('a group that is named with its topic gets what came before its first consumer', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 2, groups: [group] } })
      await stream.send(topic, [recordOf('a'), recordOf('b')])
      expect(await stream.lag(topic, group)).toBe(2)
      const { records } = await collect()
      await eventually(() => expect(keysOf(records).sort()).toEqual(['a', 'b']))
    })

    test('delivers what is sent while a consumer waits', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      const { records } = await collect()
      await stream.send(topic, [recordOf('a')])
      await eventually(() => expect(keysOf(records)).toEqual(['a']))
      await stream.send(topic, [recordOf('b')])
      await eventually(() => expect(keysOf(records)).toEqual(['a', 'b']))
    })

    test('keeps the order of one key and spreads keys over the partitions', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 4 } })
      const sent = Array.from({ length: 200 }, (_, i) => recordOf(`key-${i % 40}`, String(i)))
      await stream.send(topic, sent.slice(0, 100))
      await stream.send(topic, sent.slice(100))
      const { records } = await collect()
      await eventually(() => expect(records).toHaveLength(200))
      expect(new Set(records.map(({ partition }) => partition))).toEqual(new Set([0, 1, 2, 3]))
      for (const key of new Set(keysOf(sent))) {
        const ofKey = records.filter((record) => record.key === key)
        expect(new Set(ofKey.map(({ partition }) => partition)).size).toBe(1)
        expect(ofKey.map(textOf)).toEqual(sent.filter((record) => record.key === key).map(textOf))
        const offsets = ofKey.map(({ offset }) => offset)
        expect(offsets).toEqual([...offsets].sort((a, b) => Number(a - b)))
      }
    })

    test('gives each record to every group, and to one consumer of a group', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 4 } })
      const first = await collect()
      const second = await collect()
      const other = await collect([], `${group}-other`)
      const sent = Array.from({ length: 50 }, (_, i) => recordOf(`key-${i}`))
      await stream.send(topic, sent)
      await eventually(() => expect(other.records).toHaveLength(50))
      await eventually(() => expect(first.records.length + second.records.length).toBe(50))
      expect(keysOf([...first.records, ...second.records]).sort()).toEqual(keysOf(sent).sort())
    })

    test('never runs more handlers than maxInFlight, and goes on when one is free', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 4 } })
      const gates: (() => void)[] = []
      const handle = () => new Promise<void>((resolve) => gates.push(resolve))
      const consumer = await stream.consume({ topic, group, maxInFlight: 3, handle })
      await stream.send(
        topic,
        Array.from({ length: 20 }, (_, i) => recordOf(`key-${i}`)),
      )
      for (let started = 3; started <= 20; started++) {
        await eventually(() => expect(gates).toHaveLength(started))
        expect(consumer.inFlight).toBe(3)
        gates[started - 3]!()
      }
      for (const open of gates) open()
      await eventually(() => expect(consumer.inFlight).toBe(0))
    })

    test('commits up to the lowest unfinished record, and delivers the rest again after a restart', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(
        topic,
        ['a', 'b', 'c', 'd'].map((key) => recordOf(key)),
      )
      const done: string[] = []
      const handle = async ({ key }: ConsumedRecord) => {
        if (key === 'b') await new Promise(() => {})
        done.push(key)
      }
      const consumer = await stream.consume({ topic, group, maxInFlight: 4, handle })
      await eventually(() => expect(done).toEqual(['a', 'c', 'd']))
      await consumer.close(0)
      expect(await stream.lag(topic, group)).toBe(3)
      stream = await tested.reopen()
      const { records } = await collect()
      await eventually(() => expect(keysOf(records)).toEqual(['b', 'c', 'd']))
      await eventually(async () => expect(await stream.lag(topic, group)).toBe(0))
    })

    test('delivers what a consumer finished only once, also after a restart', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 2 } })
      await stream.send(topic, [recordOf('a'), recordOf('b')])
      const first = await collect()
      await eventually(() => expect(first.records).toHaveLength(2))
      await first.close()
      stream = await tested.reopen()
      await stream.send(topic, [recordOf('c')])
      const second = await collect()
      await eventually(() => expect(keysOf(second.records)).toEqual(['c']))
    })

    test('retries a rejected record, reports why, and commits nothing behind it meanwhile', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      const errors: unknown[] = []
      const lags: number[] = []
      const calls: string[] = []
      const busy = new Error('busy')
      const handle = async ({ key }: ConsumedRecord) => {
        calls.push(key)
        if (key === 'a' && errors.length < 2) throw busy
        if (key === 'a') lags.push(await stream.lag(topic, group))
      }
      await stream.send(topic, [recordOf('a'), recordOf('b')])
      const onError = (error: unknown) => errors.push(error)
      await stream.consume({ topic, group, maxInFlight: 2, handle, onError })
      await eventually(async () => expect(await stream.lag(topic, group)).toBe(0))
      expect(calls.filter((key) => key === 'a')).toHaveLength(3)
      expect(calls.filter((key) => key === 'b')).toHaveLength(1)
      expect(errors).toEqual([busy, busy])
      expect(lags).toEqual([2])
    })

    test('a record that waits for its next attempt keeps its place', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(
        topic,
        ['a', 'b', 'c'].map((key) => recordOf(key)),
      )
      const calls: string[] = []
      const handle = async ({ key }: ConsumedRecord) => {
        calls.push(key)
        if (calls.length <= 2) throw new Error('not now')
      }
      const consumer = await stream.consume({ topic, group, maxInFlight: 1, handle })
      await eventually(() => expect(calls).toEqual(['a', 'a', 'a', 'b', 'c']))
      await consumer.close()
    })

    test('close waits for the handlers that run and commits what they finish', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [recordOf('a'), recordOf('b')])
      let open = () => {}
      const gate = new Promise<void>((resolve) => {
        open = resolve
      })
      let aborted = false
      const handle = async (_: ConsumedRecord, signal: AbortSignal) => {
        await gate
        aborted ||= signal.aborted
      }
      const consumer = await stream.consume({ topic, group, maxInFlight: 1, handle })
      await eventually(() => expect(consumer.inFlight).toBe(1))
      const closed = consumer.close(30_000)
      open()
      await closed
      expect(aborted).toBe(false)
      expect(consumer.inFlight).toBe(0)
      expect(await stream.lag(topic, group)).toBe(1)
    })

    test('close aborts the handlers that do not end in time; the next consumer gets their records', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [recordOf('a')])
      const giveUp = vi.fn()
      const onError = vi.fn()
      const handle = (_: ConsumedRecord, signal: AbortSignal) =>
        new Promise<void>((_, reject) => {
          signal.addEventListener('abort', () => {
            giveUp()
            reject(signal.reason)
          })
        })
      const consumer = await stream.consume({ topic, group, maxInFlight: 1, handle, onError })
      await eventually(() => expect(consumer.inFlight).toBe(1))
      await consumer.close(1)
      expect(giveUp).toHaveBeenCalledOnce()
      expect(onError).not.toHaveBeenCalled()
      expect(await stream.lag(topic, group)).toBe(1)
      const { records } = await collect()
      await eventually(() => expect(keysOf(records)).toEqual(['a']))
    })

    test('close does not wait for a record that waits for its next attempt', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [recordOf('a')])
      let calls = 0
      const handle = async () => {
        calls++
        throw new Error('never')
      }
      const consumer = await stream.consume({ topic, group, maxInFlight: 1, handle })
      await eventually(() => expect(calls).toBe(1))
      await consumer.close()
      expect(calls).toBe(1)
      const { records } = await collect()
      await eventually(() => expect(keysOf(records)).toEqual(['a']))
    })

    test('a topic that exists keeps its partitions and records', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [recordOf('a')])
      await stream.ensureTopics({ [topic]: { partitions: 5 } })
      await stream.send(
        topic,
        ['b', 'c', 'd', 'e'].map((key) => recordOf(key)),
      )
      const { records } = await collect()
      await eventually(() => expect(keysOf(records)).toEqual(['a', 'b', 'c', 'd', 'e']))
      expect(new Set(records.map(({ partition }) => partition))).toEqual(new Set([0]))
    })

    test('a group is counted: what it has before it, what came in all, who shares it', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 3, groups: [group] } })
      const records = ['a', 'b', 'c', 'd', 'e'].map((key) => recordOf(key))
      await stream.send(topic, records)
      expect(await stream.groupState(topic, group)).toEqual({ lag: 5, taken: 5, members: 0, partitions: 3 })
      const consumers = [await collect(), await collect()]
      await eventually(async () => {
        const state = await stream.groupState(topic, group)
        expect(state).toEqual({ lag: 0, taken: 5, members: 2, partitions: 3 })
      })
      await consumers[0]!.close()
      await stream.send(topic, records)
      await eventually(async () =>
        expect(await stream.groupState(topic, group)).toMatchObject({ lag: 0, taken: 10, members: 1 }),
      )
    })

    test('lag counts what the group has not committed', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 3 } })
      expect(await stream.lag(topic, group)).toBe(0)
      await stream.send(
        topic,
        ['a', 'b', 'c', 'd', 'e'].map((key) => recordOf(key)),
      )
      expect(await stream.lag(topic, group)).toBe(5)
      await collect()
      await eventually(async () => expect(await stream.lag(topic, group)).toBe(0))
      expect(await stream.lag(topic, `${group}-other`)).toBe(5)
    })

    test('sending nothing does nothing', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [])
      expect(await stream.lag(topic, group)).toBe(0)
    })

    test('many concurrent sends all arrive', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 4 } })
      const { records } = await collect()
      const sent = Array.from({ length: 300 }, (_, i) => recordOf(`key-${i}`))
      await Promise.all(sent.map((record) => stream.send(topic, [record])))
      await eventually(() => expect(records).toHaveLength(300))
      expect(keysOf(records).sort()).toEqual(keysOf(sent).sort())
    })

    test('refuses work after close', async () => {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.close()
      await expect(stream.send(topic, [recordOf('a')])).rejects.toThrow(StreamUnavailableError)
    })
  })
}

function recordOf(key: string, text = key): StreamRecord {
  return { key, value: new TextEncoder().encode(text), headers: { 'turbine-id': key } }
}

function keysOf(records: StreamRecord[]): string[] {
  return records.map(({ key }) => key)
}

function textOf(record: StreamRecord): string {
  return new TextDecoder().decode(record.value)
}
