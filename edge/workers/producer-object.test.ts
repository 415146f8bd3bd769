import { beforeEach, expect, test, vi } from 'vitest'
import { type SendOptions, StreamUnavailableError } from '../../infra/stream/stream.ts'
import type { WorkerEnv } from './env.ts'
import { ProducerObject } from './producer-object.ts'

const kafka = vi.hoisted(() => ({
  options: [] as { brokers: string[]; maxQueuedBytes: number }[],
  send: async (_topic: string, _records: unknown, _options: SendOptions): Promise<void> => {},
}))

vi.mock('cloudflare:workers', () => ({
  DurableObject: class {
    protected env: unknown
    constructor(_context: unknown, env: unknown) {
      this.env = env
    }
  },
}))
vi.mock('../../infra/stream/kafka-producer.ts', () => ({
  KafkaProducer: class {
    constructor(options: (typeof kafka.options)[number]) {
      kafka.options.push(options)
    }
    send: typeof kafka.send = (...args) => kafka.send(...args)
  },
}))

const env = {
  KAFKA_BROKERS: '127.0.0.1:1, 127.0.0.1:2',
  TURBINE_REPLY_SECRET: 'a secret of the fleet',
  TURBINE_LOG_LEVEL: 'silent',
} as unknown as WorkerEnv
const records = [{ key: 'a', value: new Uint8Array(1), headers: {} }]

beforeEach(() => void kafka.options.splice(0))

test('one connection serves all requests, within the memory of an isolate', async () => {
  const sent = vi.spyOn(kafka, 'send').mockResolvedValue()
  const producer = new ProducerObject({}, env)
  for (const ticket of ['1', '2']) expect(await producer.send(ticket, 't', records)).toEqual({ sent: true })
  expect(sent).toHaveBeenCalledTimes(2)
  expect(kafka.options).toHaveLength(1)
  expect(kafka.options[0]).toMatchObject({ brokers: ['127.0.0.1:1', '127.0.0.1:2'] })
  expect(kafka.options[0]!.maxQueuedBytes).toBeLessThanOrEqual(16 * 1024 * 1024)
})

test('a failure is data', async () => {
  vi.spyOn(kafka, 'send').mockRejectedValue(new StreamUnavailableError('Kafka is away.'))
  expect(await new ProducerObject({}, env).send('1', 't', records)).toEqual({
    sent: false,
    name: 'StreamUnavailableError',
    message: 'Kafka is away.',
  })
})

test('an abandoned send ends, and no other', async () => {
  const signals: AbortSignal[] = []
  vi.spyOn(kafka, 'send').mockImplementation(
    (_topic, _records, { signal }) =>
      new Promise((_resolve, reject) => {
        signals.push(signal!)
        signal!.addEventListener('abort', () => reject(signal!.reason))
      }),
  )
  const producer = new ProducerObject({}, env)
  const first = producer.send('1', 't', records)
  void producer.send('2', 't', records)
  await producer.abandon('1')
  expect(await first).toMatchObject({ sent: false, name: 'AbortError' })
  expect(signals.map(({ aborted }) => aborted)).toEqual([true, false])
  await producer.abandon('unknown')
})

test('Kafka is not asked whether it is there when it has just acknowledged something', async () => {
  vi.spyOn(kafka, 'send').mockResolvedValue()
  const producer = new ProducerObject({}, env)
  expect(await producer.fault()).toContain('Kafka cannot be reached at 127.0.0.1:1')
  await producer.send('1', 't', records)
  expect(await producer.fault()).toBeUndefined()
})
