import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, inject, test } from 'vitest'
import { type KafkaServer, type SecureListeners, startKafka } from '../../test/servers/kafka.ts'
import { openKafkaStream } from './kafka.ts'
import type { KafkaOptions } from './kafka-connection.ts'
import { KafkaProducer } from './kafka-producer.ts'
import { eventually } from './stream.contract.ts'
import { type ConsumedRecord, StreamOpenError, type StreamRecord, StreamUnavailableError } from './stream.ts'
import { checkTopics } from './topics.ts'

type Sasl = NonNullable<KafkaOptions['sasl']>

const mechanisms: Sasl['mechanism'][] = ['plain', 'scram-sha-256', 'scram-sha-512']
const record: StreamRecord = { key: 'a', value: Uint8Array.of(1), headers: {} }

describe.skipIf(!inject('kafkaOfOwn'))('Kafka with TLS and SASL', () => {
  let server: KafkaServer
  let secure: SecureListeners

  beforeAll(async () => {
    server = await startKafka({ secure: true })
    secure = server.secure!
  })
  afterAll(() => server?.dispose())

  const sasl = (mechanism: Sasl['mechanism'] = 'scram-sha-512'): Sasl => {
    return { mechanism, username: secure.username, password: secure.password }
  }
  const wrong = (mechanism: Sasl['mechanism']): Sasl => ({ ...sasl(mechanism), password: 'a guess' })

  /** Sends a record and consumes it. */
  const roundTrip = async (options: KafkaOptions) => {
    const topic = `turbine.test-${randomUUID()}`
    const stream = await openKafkaStream(options)
    try {
      await stream.ensureTopics({ [topic]: { partitions: 1 } })
      await stream.send(topic, [record])
      const keys: string[] = []
      const handle = async ({ key }: ConsumedRecord) => void keys.push(key)
      await stream.consume({ topic, group: topic, maxInFlight: 1, handle })
      await eventually(() => expect(keys).toEqual(['a']))
    } finally {
      await stream.close()
    }
  }

  test('TLS with an authority of its own', () => {
    return roundTrip({ brokers: [secure.tls], tls: true, ca: secure.ca })
  })

  test.each(mechanisms)('%s over TLS', (mechanism) => {
    return roundTrip({ brokers: [secure.saslTls], tls: true, ca: secure.ca, sasl: sasl(mechanism) })
  })

  test.each(mechanisms)('%s over a plain connection', (mechanism) => {
    return roundTrip({ brokers: [secure.sasl], sasl: sasl(mechanism) })
  })

  test.each(mechanisms)('a wrong password for %s is refused by name', async (mechanism) => {
    const options = { brokers: [secure.sasl], sasl: wrong(mechanism) }
    await expect(openKafkaStream(options)).rejects.toThrow(/KAFKA_PASSWORD/)
    await expect(checkTopics(options, {})).rejects.toThrow(StreamOpenError)
    const producer = new KafkaProducer(options)
    const sent = producer.send('jobs', [record])
    await expect(sent).rejects.toThrow(StreamUnavailableError)
    await expect(sent).rejects.toThrow(/KAFKA_PASSWORD/)
    await producer.close()
  })

  test('a certificate that is not trusted is refused by name', async () => {
    const opened = openKafkaStream({ brokers: [secure.tls], tls: true })
    await expect(opened).rejects.toThrow(/certificate.*KAFKA_CA/)
  })

  test('a listener that wants TLS and does not get it is a StreamOpenError', async () => {
    await expect(openKafkaStream({ brokers: [secure.tls] })).rejects.toThrow(StreamOpenError)
  })
})
