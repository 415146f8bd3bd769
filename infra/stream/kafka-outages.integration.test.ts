import { randomUUID } from 'node:crypto'
import { setTimeout as wait } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, inject, test } from 'vitest'
import { type KafkaServer, startKafka } from '../../test/servers/kafka.ts'
import { openKafkaStream } from './kafka.ts'
import { eventually } from './stream.contract.ts'
import { type ConsumedRecord, type Stream, StreamOpenError, StreamUnavailableError } from './stream.ts'

/**
 * A record is sent every few milliseconds and consumed while something happens to the broker. Whatever `send` has
 * fulfilled for must be handled.
 */
describe.skipIf(!inject('kafkaOfOwn'))('while Kafka is away', () => {
  let server: KafkaServer
  let stream: Stream
  let topic: string

  beforeAll(async () => {
    server = await startKafka()
  })
  afterAll(() => server?.dispose())

  beforeEach(async () => {
    topic = `turbine.test-${randomUUID()}`
    stream = await openKafkaStream({ brokers: [server.brokers] })
    await stream.ensureTopics({ [topic]: { partitions: 4, groups: [topic] } })
  })
  afterEach(() => stream.close())

  const startTraffic = async () => {
    const handled: string[] = []
    const acknowledged: string[] = []
    const refused: unknown[] = []
    const errors: unknown[] = []
    const consumer = await stream.consume({
      topic,
      group: topic,
      maxInFlight: 16,
      handle: async ({ key }: ConsumedRecord) => {
        await wait(10)
        handled.push(key)
      },
      onError: (error) => errors.push(error),
    })
    const sends: Promise<unknown>[] = []
    const timer = setInterval(() => {
      const key = `key-${sends.length}`
      const sent = stream.send(topic, [{ key, value: new TextEncoder().encode(key), headers: {} }])
      const done = () => acknowledged.push(key)
      sends.push(sent.then(done, (error) => refused.push(error)))
    }, 10)
    await eventually(() => expect(handled.length).toBeGreaterThan(20))
    const stop = async () => {
      clearInterval(timer)
      await Promise.all(sends)
    }
    return { handled, acknowledged, refused, errors, consumer, stop }
  }

  type Traffic = Awaited<ReturnType<typeof startTraffic>>

  /** Expects records to get through again, and none that was acknowledged to be lost. */
  const expectNothingLost = async ({ handled, acknowledged, refused, stop }: Traffic) => {
    const before = acknowledged.length
    await eventually(() => expect(acknowledged.length).toBeGreaterThan(before + 50))
    await stop()
    await eventually(async () => expect(await stream.lag(topic, topic)).toBe(0))
    const seen = new Set(handled)
    expect(acknowledged.filter((key) => !seen.has(key))).toEqual([])
    for (const error of refused) expect(error).toBeInstanceOf(StreamUnavailableError)
  }

  test('a restart loses nothing', async () => {
    const traffic = await startTraffic()
    await server.stop()
    await wait(3_000)
    await server.start()
    await expectNothingLost(traffic)
  })

  test('a power loss loses nothing', async () => {
    const traffic = await startTraffic()
    await server.kill()
    await wait(1_000)
    await server.start()
    await expectNothingLost(traffic)
  })

  test('a broker that hangs loses nothing', async () => {
    const traffic = await startTraffic()
    server.freeze()
    await wait(4_000)
    server.thaw()
    await expectNothingLost(traffic)
  })

  test('closing does not wait for it to come back, and opening says what to do', async () => {
    const traffic = await startTraffic()
    await traffic.stop()
    await eventually(async () => expect(await stream.lag(topic, topic)).toBe(0))
    await server.stop()
    try {
      await stream.close()
      await expect(stream.lag(topic, topic)).rejects.toThrow(StreamUnavailableError)
      const opened = openKafkaStream({ brokers: [server.brokers] })
      await expect(opened).rejects.toThrow(StreamOpenError)
      await expect(opened).rejects.toThrow(/KAFKA_BROKERS/)
    } finally {
      await server.start()
    }
  })
})
