import type { ProducerRecord } from 'kafkajs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import { KafkaProducer, type KafkaProducerOptions } from './kafka-producer.ts'
import {
  RecordTooLargeError,
  type StreamRecord,
  StreamUnavailableError,
  UnknownTopicError,
} from './stream.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

interface FakeClient {
  connected: boolean
  disconnects: number
  sends: { record: ProducerRecord; acknowledge(): void; fail(error: Error): void }[]
}

/** A producer whose clients do as they are told; `refusals` are the errors of the next connections. */
function fakeProducer(options: Partial<KafkaProducerOptions> = {}) {
  const clients: FakeClient[] = []
  const refusals: Error[] = []
  const createClient = () => {
    const client: FakeClient = { connected: false, disconnects: 0, sends: [] }
    clients.push(client)
    return {
      connect: async () => {
        const refusal = refusals.shift()
        if (refusal) throw refusal
        client.connected = true
      },
      send: (record: ProducerRecord) =>
        new Promise<void>((acknowledge, fail) => client.sends.push({ record, acknowledge, fail })),
      disconnect: async () => {
        client.connected = false
        client.disconnects++
      },
    }
  }
  const producer = new KafkaProducer({ brokers: ['kafka:9092'], createClient, ...options })
  return { producer, clients, refusals }
}

const recordOf = (key: string, bytes = 10): StreamRecord => ({
  key,
  value: new Uint8Array(bytes),
  headers: {},
})

/** Lets everything happen that needs no time. */
const settle = () => vi.advanceTimersByTimeAsync(0)

const keysOf = ({ record }: FakeClient['sends'][number]) => record.messages.map(({ key }) => key)

/** State of a promise, without waiting for it. */
function outcome(promise: Promise<unknown>): { state: string; error?: unknown } {
  const seen: { state: string; error?: unknown } = { state: 'pending' }
  promise.then(
    () => Object.assign(seen, { state: 'done' }),
    (error: unknown) => Object.assign(seen, { state: 'failed', error }),
  )
  return seen
}

const failure = (message: string, fields: object = {}) => Object.assign(new Error(message), fields)

test('connects when the first record comes, and is done when Kafka has it', async () => {
  const { producer, clients } = fakeProducer()
  expect(clients).toHaveLength(0)
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await settle()
  expect(clients[0]!.sends.map(keysOf)).toEqual([['a']])
  expect(clients[0]!.sends[0]!.record).toMatchObject({ topic: 'jobs', acks: -1 })
  expect(sent.state).toBe('pending')
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  expect(sent.state).toBe('done')
})

test('what comes while a send is on its way goes out together', async () => {
  const { producer, clients } = fakeProducer()
  void producer.send('jobs', [recordOf('a')])
  await settle()
  for (const key of ['b', 'c', 'd']) void producer.send('jobs', [recordOf(key)])
  await settle()
  const [client] = clients
  expect(client!.sends).toHaveLength(1)
  client!.sends[0]!.acknowledge()
  await settle()
  expect(client!.sends.map(keysOf)).toEqual([['a'], ['b', 'c', 'd']])
})

test('keeps a send below its bytes and its records; what is larger goes alone', async () => {
  const { producer, clients } = fakeProducer({ maxBytesPerSend: 1000, maxRecordsPerSend: 3 })
  const sizes = { a: 200, b: 200, c: 2000, d: 1, e: 1, f: 1, g: 1 }
  for (const [key, bytes] of Object.entries(sizes)) void producer.send('jobs', [recordOf(key, bytes)])
  await settle()
  for (let i = 0; i < 4; i++) {
    clients[0]!.sends[i]!.acknowledge()
    await settle()
  }
  expect(clients[0]!.sends.map(keysOf)).toEqual([['a', 'b'], ['c'], ['d', 'e', 'f'], ['g']])
})

test('many records of one call go out in parts, and a failed part ends it', async () => {
  const { producer, clients } = fakeProducer({ maxRecordsPerSend: 2 })
  const records = ['a', 'b', 'c', 'd', 'e'].map((key) => recordOf(key))
  const sent = outcome(producer.send('jobs', records))
  await settle()
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  clients[0]!.sends[1]!.fail(failure('lost'))
  await settle()
  expect(clients[0]!.sends.map(keysOf)).toEqual([
    ['a', 'b'],
    ['c', 'd'],
  ])
  expect(clients).toHaveLength(1)
  expect(sent).toMatchObject({ state: 'failed', error: expect.any(StreamUnavailableError) })
})

test('topics go out apart, so that trouble with one is its own', async () => {
  const { producer, clients } = fakeProducer()
  const missing = outcome(producer.send('missing', [recordOf('a')]))
  const fine = outcome(producer.send('jobs', [recordOf('b')]))
  await settle()
  clients[0]!.sends[0]!.fail(failure('no such topic', { type: 'UNKNOWN_TOPIC_OR_PARTITION' }))
  await settle()
  expect(missing.error).toBeInstanceOf(UnknownTopicError)
  expect(fine.state).toBe('pending')
  clients[1]!.sends[0]!.acknowledge()
  await settle()
  expect(fine.state).toBe('done')
})

test('after a failed send the next one goes out by a new client, and the old one is disconnected', async () => {
  const { producer, clients } = fakeProducer()
  const cause = failure('the acknowledgement was lost')
  const first = outcome(producer.send('jobs', [recordOf('a')]))
  await settle()
  void producer.send('jobs', [recordOf('b')])
  clients[0]!.sends[0]!.fail(cause)
  await settle()
  expect(first.error).toBeInstanceOf(StreamUnavailableError)
  expect(first.error).toMatchObject({ retriable: true, cause })
  expect(clients).toHaveLength(2)
  expect(clients[0]!.connected).toBe(false)
  expect(clients[1]!.sends.map(keysOf)).toEqual([['b']])
})

test('a send that takes too long fails, and its client is disconnected again after its end', async () => {
  const { producer, clients } = fakeProducer({ sendTimeoutMs: 5_000 })
  const late = outcome(producer.send('jobs', [recordOf('a')]))
  await vi.advanceTimersByTimeAsync(5_000)
  expect(late.error).toBeInstanceOf(StreamUnavailableError)
  void producer.send('jobs', [recordOf('b')])
  await settle()
  expect(clients[1]!.sends.map(keysOf)).toEqual([['b']])
  expect(clients[0]!.disconnects).toBe(1)
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  expect(clients[0]!.disconnects).toBe(2)
})

test('records that have not gone out wait until Kafka is back', async () => {
  const { producer, clients, refusals } = fakeProducer()
  refusals.push(failure('ECONNREFUSED'), failure('ECONNREFUSED'))
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await vi.advanceTimersByTimeAsync(1_000)
  expect(clients).toHaveLength(3)
  clients[2]!.sends[0]!.acknowledge()
  await settle()
  expect(sent.state).toBe('done')
})

test('gives up when Kafka stays away, and says why', async () => {
  const { producer, refusals } = fakeProducer({ sendTimeoutMs: 3_000 })
  const cause = failure('connect ECONNREFUSED')
  refusals.push(...Array(20).fill(cause))
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await vi.advanceTimersByTimeAsync(3_000)
  expect(sent.error).toBeInstanceOf(StreamUnavailableError)
  expect(sent.error).toMatchObject({ cause })
})

test('refused credentials fail at once, with what to do', async () => {
  const { producer, refusals } = fakeProducer()
  refusals.push(failure('Authentication failed', { name: 'KafkaJSSASLAuthenticationError' }))
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await settle()
  expect(sent.error).toBeInstanceOf(StreamUnavailableError)
  expect(String(sent.error)).toContain('KAFKA_PASSWORD')
})

test('an aborted send leaves the queue when it has not gone out', async () => {
  const { producer, clients } = fakeProducer()
  void producer.send('jobs', [recordOf('a')])
  await settle()
  const abort = new AbortController()
  const aborted = outcome(producer.send('jobs', [recordOf('b')], { signal: abort.signal }))
  void producer.send('jobs', [recordOf('c')])
  await settle()
  const reason = new Error('the caller has gone')
  abort.abort(reason)
  await settle()
  expect(aborted).toEqual({ state: 'failed', error: reason })
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  expect(clients[0]!.sends.map(keysOf)).toEqual([['a'], ['c']])
})

test('an aborted send that is on its way only stops waiting', async () => {
  const { producer, clients } = fakeProducer()
  const abort = new AbortController()
  const aborted = outcome(producer.send('jobs', [recordOf('a')], { signal: abort.signal }))
  await settle()
  abort.abort(new Error('gone'))
  await settle()
  expect(aborted.state).toBe('failed')
  clients[0]!.sends[0]!.acknowledge()
  const next = outcome(producer.send('jobs', [recordOf('b')]))
  await settle()
  clients[0]!.sends[1]!.acknowledge()
  await settle()
  expect(next.state).toBe('done')
})

test('refuses at once what does not fit into its memory, and takes it when there is room', async () => {
  const { producer, clients } = fakeProducer({ maxQueuedBytes: 1000 })
  void producer.send('jobs', [recordOf('a', 800)])
  await settle()
  await expect(producer.send('jobs', [recordOf('b', 800)])).rejects.toThrow(StreamUnavailableError)
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  void producer.send('jobs', [recordOf('c', 800)])
  await settle()
  expect(clients[0]!.sends.map(keysOf)).toEqual([['a'], ['c']])
})

test('a record that is larger than its topic takes is an error of its own', async () => {
  const { producer, clients } = fakeProducer()
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await settle()
  clients[0]!.sends[0]!.fail(failure('too large', { type: 'MESSAGE_TOO_LARGE' }))
  await settle()
  expect(sent.error).toBeInstanceOf(RecordTooLargeError)
  expect(sent.error).toMatchObject({ retriable: false })
})

test('closing waits for what is queued, then refuses more', async () => {
  const { producer, clients } = fakeProducer()
  const sent = outcome(producer.send('jobs', [recordOf('a')]))
  await settle()
  const closed = outcome(producer.close())
  await settle()
  expect(closed.state).toBe('pending')
  clients[0]!.sends[0]!.acknowledge()
  await settle()
  expect(sent.state).toBe('done')
  expect(closed.state).toBe('done')
  expect(clients[0]!.connected).toBe(false)
  await expect(producer.send('jobs', [recordOf('b')])).rejects.toThrow(StreamUnavailableError)
})

test('sends the bytes of a view, not of what lies around it', async () => {
  const { producer, clients } = fakeProducer()
  const around = Uint8Array.from([1, 2, 3, 4])
  void producer.send('jobs', [{ key: 'a', value: around.subarray(1, 3), headers: { tenant: 'x' } }])
  await settle()
  const [message] = clients[0]!.sends[0]!.record.messages
  expect(message).toMatchObject({ key: 'a', headers: { tenant: 'x' } })
  expect([...(message!.value as Buffer)]).toEqual([2, 3])
})
