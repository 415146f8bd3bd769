import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, inject, test } from 'vitest'
import { startKafkaProxy } from './fixtures/kafka-proxy.ts'
import { openKafkaStream } from './kafka.ts'
import { createKafka } from './kafka-connection.ts'
import { KafkaProducer } from './kafka-producer.ts'
import { describeStream, eventually } from './stream.contract.ts'
import {
  type ConsumedRecord,
  RecordTooLargeError,
  type Stream,
  type StreamRecord,
  StreamUnavailableError,
  UnknownTopicError,
} from './stream.ts'
import { checkTopics, createTopics } from './topics.ts'

const kafka = inject('kafka')

describe.skipIf(!kafka)('Kafka', () => {
  const options = { brokers: kafka?.brokers.split(',') ?? [] }
  const streams: Stream[] = []
  let topic: string
  let group: string

  beforeEach(() => {
    topic = `turbine.test-${randomUUID()}`
    group = `turbine-test-${randomUUID()}`
  })
  afterEach(async () => {
    await Promise.all(streams.splice(0).map((stream) => stream.close()))
  })

  const open = async (settings: { sessionTimeoutMs?: number } = {}) => {
    const stream = await openKafkaStream({ ...options, ...settings })
    streams.push(stream)
    return stream
  }

  describeStream('as a stream', async () => {
    let stream = await openKafkaStream(options)
    return {
      stream,
      reopen: async () => {
        await stream.close()
        stream = await openKafkaStream(options)
        return stream
      },
      dispose: () => stream.close(),
    }
  })

  test('a group without commits misses nothing that comes while it is away', async () => {
    const stream = await open()
    await stream.ensureTopics({ [topic]: { partitions: 2 } })
    const keys: string[] = []
    const handle = async ({ key }: ConsumedRecord) => void keys.push(key)
    const join = () => stream.consume({ topic, group, maxInFlight: 4, handle })
    const first = await join()
    // Time to join, and to leave without having seen a record.
    await wait(1_500)
    await first.close()
    await stream.send(topic, ['a', 'b', 'c', 'd', 'e'].map(recordOf))
    await join()
    await eventually(() => expect(keys.toSorted()).toEqual(['a', 'b', 'c', 'd', 'e']))
  })

  test('a lost acknowledgement does not cost the next record', async () => {
    const stream = await open()
    await stream.ensureTopics({ [topic]: { partitions: 1 } })
    const proxy = await startKafkaProxy(options.brokers[0]!)
    const client = createKafka({ ...options, socketFactory: proxy.socketFactory })
    const retry = { retries: 1, initialRetryTime: 50 }
    const createClient = () => client.producer({ idempotent: true, maxInFlightRequests: 1, retry })
    const producer = new KafkaProducer({ ...options, createClient })
    try {
      await producer.send(topic, [recordOf('first')])
      proxy.losesAcknowledgements = true
      await expect(producer.send(topic, [recordOf('unsure')])).rejects.toThrow(StreamUnavailableError)
      proxy.losesAcknowledgements = false
      await producer.send(topic, [recordOf('next')])
      const stored = (await stream.peek(topic, group, 10)).map(({ key }) => key)
      expect(stored).toContain('next')
      expect(stored.filter((key) => key === 'unsure').length).toBeLessThanOrEqual(2)
    } finally {
      await producer.close()
      proxy.close()
    }
  })

  test('a handler that takes longer than the session keeps its partitions', async () => {
    const sessionTimeoutMs = 6_000
    const streamOf = () => open({ sessionTimeoutMs })
    const [first, second] = await Promise.all([streamOf(), streamOf()])
    await first.ensureTopics({ [topic]: { partitions: 1 } })
    const starts: string[] = []
    const handle = async ({ key }: ConsumedRecord) => {
      starts.push(key)
      if (key === 'long') await wait(sessionTimeoutMs + 2_000)
    }
    for (const stream of [first, second]) await stream.consume({ topic, group, maxInFlight: 1, handle })
    // Until the partition has found its owner; the other one would get the record if the owner were given up.
    await wait(3_000)
    await first.send(topic, ['long', 'next'].map(recordOf))
    await eventually(async () => expect(await first.lag(topic, group)).toBe(0))
    expect(starts).toEqual(['long', 'next'])
  })

  test('consumers come and go under load: every record is handled, none twice by one consumer', async () => {
    const sender = await open()
    await sender.ensureTopics({ [topic]: { partitions: 6, groups: [group] } })
    const sent: string[] = []
    const handledBy: string[][] = []
    const join = async (handled: string[] = []) => {
      handledBy.push(handled)
      const handle = async ({ key }: ConsumedRecord) => {
        await wait(20)
        handled.push(key)
      }
      return (await open()).consume({ topic, group, maxInFlight: 8, handle })
    }
    let sending = true
    const load = (async () => {
      while (sending) {
        const keys = Array.from({ length: 10 }, (_, i) => `key-${sent.length + i}`)
        await sender.send(topic, keys.map(recordOf))
        sent.push(...keys)
        await wait(20)
      }
    })()
    const first = await join()
    await wait(1_500)
    const second = await join()
    await wait(3_000)
    await first.close()
    await join()
    await wait(3_000)
    await second.close()
    sending = false
    await load
    await eventually(async () => expect(await sender.lag(topic, group)).toBe(0))
    expect(new Set(handledBy.flat())).toEqual(new Set(sent))
    for (const handled of handledBy) expect(new Set(handled).size).toBe(handled.length)
  })

  test('a record that its topic cannot take, and a topic that is not there, are errors of their own', async () => {
    const stream = await open()
    await stream.ensureTopics({ [topic]: { partitions: 1 } })
    const tooLarge = { ...recordOf('a'), value: new Uint8Array(2 * 1024 * 1024) }
    await expect(stream.send(topic, [tooLarge])).rejects.toThrow(RecordTooLargeError)
    await stream.send(topic, [recordOf('b')])
    const missing = `${topic}-missing`
    const handle = async () => {}
    await expect(stream.consume({ topic: missing, group, maxInFlight: 1, handle })).rejects.toThrow(
      UnknownTopicError,
    )
    await expect(stream.lag(missing, group)).rejects.toThrow(UnknownTopicError)
    expect(await stream.lag(topic, group)).toBe(1)
    await expect(stream.send(missing, [recordOf('a')])).rejects.toThrow(UnknownTopicError)
  })

  test('many large records at once arrive, though they do not fit into one batch', async () => {
    const stream = await open()
    await stream.ensureTopics({ [topic]: { partitions: 1 } })
    const records = Array.from({ length: 24 }, (_, i) => ({
      ...recordOf(`key-${i}`),
      value: new Uint8Array(300_000),
    }))
    await Promise.all(records.map((record) => stream.send(topic, [record])))
    expect(await stream.lag(topic, group)).toBe(24)
    expect(await stream.peek(topic, group, 24)).toHaveLength(24)
  })

  describe('topics', () => {
    const dayMs = 86_400_000

    test('are checked, made, raised, and left as they are otherwise', async () => {
      const layout = { [topic]: { partitions: 3, retentionMs: dayMs, groups: [group] } }
      expect(await checkTopics(options, layout)).toMatchObject([
        { topic, ok: false, findings: [expect.stringContaining('does not exist')] },
      ])
      await createTopics(options, layout)
      expect(await checkTopics(options, layout)).toEqual([{ topic, ok: true, partitions: 3, findings: [] }])

      const more = {
        [topic]: { partitions: 4, retentionMs: 2 * dayMs, maxMessageBytes: 4_000_000, groups: ['other'] },
      }
      const [report] = await checkTopics(options, more)
      expect(report).toMatchObject({ ok: false, partitions: 3 })
      expect(report!.findings).toEqual([
        expect.stringContaining('has 3 partitions of 4'),
        expect.stringContaining('retention.ms'),
        expect.stringContaining('max.message.bytes'),
        expect.stringContaining('group other'),
      ])
      await createTopics(options, more)
      expect((await checkTopics(options, more))[0]!.findings).toEqual([
        expect.stringContaining('has 3 partitions of 4'),
      ])
      const admin = createKafka(options).admin()
      await admin.connect()
      const { resources } = await admin.describeConfigs({
        includeSynonyms: false,
        resources: [{ type: 2, name: topic, configNames: ['message.timestamp.type'] }],
      })
      await admin.disconnect()
      expect(resources[0]!.configEntries[0]!.configValue).toBe('LogAppendTime')
    })

    test('the offsets of a group are not set back', async () => {
      const stream = await open()
      const layout = { [topic]: { partitions: 1, groups: [group] } }
      await stream.ensureTopics(layout)
      await stream.send(topic, ['a', 'b'].map(recordOf))
      const consumer = await stream.consume({ topic, group, maxInFlight: 2, handle: async () => {} })
      await eventually(async () => expect(await stream.lag(topic, group)).toBe(0))
      await stream.ensureTopics(layout)
      await consumer.close()
      await stream.ensureTopics(layout)
      expect(await stream.lag(topic, group)).toBe(0)
    })
  })
})

function recordOf(key: string): StreamRecord {
  return { key, value: new TextEncoder().encode(key), headers: { 'turbine-id': key } }
}
