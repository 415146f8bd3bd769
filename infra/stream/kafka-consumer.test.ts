import type { Batch, ConsumerRunConfig, EachBatchPayload, KafkaMessage, Offsets } from 'kafkajs'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import {
  type ConsumerClient,
  fetchSizes,
  KafkaConsumer,
  type KafkaConsumerOptions,
} from './kafka-consumer.ts'
import type { ConsumedRecord } from './stream.ts'

beforeEach(() => vi.useFakeTimers())
afterEach(() => vi.useRealTimers())

const settle = () => vi.advanceTimersByTimeAsync(0)
/** Long enough for what was finished to be committed. */
const commitPause = () => vi.advanceTimersByTimeAsync(150)

function messageAt(offset: number): KafkaMessage {
  const content = { key: Buffer.from(`key-${offset}`), value: Buffer.from('value'), headers: {} }
  return { ...content, timestamp: '0', attributes: 0, offset: String(offset) }
}

function batchOf(partition: number, from: number, end: number): Batch {
  const messages = Array.from({ length: end - from }, (_, i) => messageAt(from + i))
  return {
    topic: 'jobs',
    partition,
    messages,
    highWatermark: String(end),
    isEmpty: () => messages.length === 0,
    firstOffset: () => String(from),
    lastOffset: () => String(end - 1),
    offsetLag: () => '0',
    offsetLagLow: () => '0',
  }
}

type Listener = (event: { payload: Record<string, unknown> }) => void

/** A kafkajs consumer that does as it is told. */
class FakeClient {
  readonly commits: Record<number, number>[] = []
  readonly seeks: { partition: number; offset: string }[] = []
  readonly resolved: string[] = []
  heartbeats = 0
  disconnects = 0
  stale = false
  heartbeatError: Error | undefined
  commitError: Error | undefined
  readonly #listeners = new Map<string, Listener[]>()
  #run: ConsumerRunConfig | undefined

  readonly client = {
    events: { CRASH: 'crash', GROUP_JOIN: 'group_join' },
    on: (event: string, listener: Listener) => {
      this.#listeners.set(event, [...(this.#listeners.get(event) ?? []), listener])
    },
    connect: async () => {},
    subscribe: async () => {},
    run: async (config: ConsumerRunConfig) => {
      this.#run = config
    },
    seek: ({ partition, offset }: { partition: number; offset: string }) =>
      this.seeks.push({ partition, offset }),
    disconnect: async () => {
      this.disconnects++
    },
  } as unknown as ConsumerClient

  join(memberId: string, partitions: number[]): void {
    this.#emit('group_join', { memberId, memberAssignment: { jobs: partitions } })
  }

  crash(error: Error): void {
    this.#emit('crash', { error })
  }

  /** Hands over what was fetched; settles when kafkajs would fetch again. */
  fetched(batch: Batch): Promise<void> {
    const payload: EachBatchPayload = {
      batch,
      resolveOffset: (offset) => this.resolved.push(offset),
      heartbeat: async () => {
        this.heartbeats++
        if (this.heartbeatError) throw this.heartbeatError
      },
      pause: () => () => {},
      commitOffsetsIfNecessary: async (offsets) => this.#commit(offsets!),
      uncommittedOffsets: () => ({ topics: [] }),
      isRunning: () => true,
      isStale: () => this.stale,
    }
    return this.#run!.eachBatch!(payload)
  }

  #commit({ topics: [topic] }: Offsets): void {
    if (this.commitError) throw this.commitError
    this.commits.push(
      Object.fromEntries(topic!.partitions.map(({ partition, offset }) => [partition, Number(offset)])),
    )
  }

  #emit(event: string, payload: Record<string, unknown>): void {
    for (const listener of this.#listeners.get(event) ?? []) listener({ payload })
  }
}

/** A consumer of a topic with two partitions, whose handlers wait until they are told to finish. */
async function start(options: Partial<KafkaConsumerOptions> = {}) {
  const clients: FakeClient[] = []
  const handled: { record: ConsumedRecord; finish(): void; fail(error: Error): void }[] = []
  const errors: unknown[] = []
  const consumer = new KafkaConsumer({
    topic: 'jobs',
    group: 'workers',
    brokers: ['kafka:9092'],
    partitions: 2,
    maxInFlight: 3,
    handle: (record) => new Promise((finish, fail) => handled.push({ record, finish, fail })),
    onError: (error) => errors.push(error),
    createClient: () => {
      const fake = new FakeClient()
      clients.push(fake)
      return fake.client
    },
    ...options,
  })
  await settle()
  clients[0]!.join('me', [0, 1])
  const offsets = () => handled.map(({ record }) => Number(record.offset))
  return { consumer, clients, client: clients[0]!, handled, offsets, errors }
}

/** True when a promise has fulfilled, without waiting for it. */
function watch(promise: Promise<unknown>): { state: string } {
  const seen = { state: 'pending' }
  promise.then(
    () => (seen.state = 'done'),
    () => (seen.state = 'failed'),
  )
  return seen
}

test('dispatches as many records as there is room for, and fetches again when all are dispatched', async () => {
  const { consumer, client, handled, offsets } = await start()
  const fetched = watch(client.fetched(batchOf(0, 0, 5)))
  await settle()
  expect(offsets()).toEqual([0, 1, 2])
  expect(consumer.inFlight).toBe(3)
  expect(client.resolved).toEqual(['4'])
  for (const { finish } of handled.slice(0, 2)) finish()
  await settle()
  expect(offsets()).toEqual([0, 1, 2, 3, 4])
  expect(fetched.state).toBe('pending')
  handled[2]!.finish()
  await settle()
  expect(fetched.state).toBe('done')
})

test('partitions take turns', async () => {
  const { client, handled } = await start({ maxInFlight: 1 })
  void client.fetched(batchOf(0, 0, 3))
  void client.fetched(batchOf(1, 0, 2))
  for (let i = 0; i < 5; i++) {
    await settle()
    handled[i]!.finish()
  }
  await settle()
  expect(handled.map(({ record }) => record.partition)).toEqual([0, 0, 1, 0, 1])
})

test('keeps its membership however long a handler takes', async () => {
  const { client } = await start({ maxInFlight: 1 })
  const fetched = watch(client.fetched(batchOf(0, 0, 2)))
  await vi.advanceTimersByTimeAsync(10_000)
  expect(fetched.state).toBe('pending')
  expect(client.heartbeats).toBeGreaterThanOrEqual(10)
})

test('reports to kafkajs when the membership is lost while it waits', async () => {
  const { client } = await start({ maxInFlight: 1 })
  const fetched = watch(client.fetched(batchOf(0, 0, 2)))
  client.heartbeatError = new Error('rebalancing')
  await vi.advanceTimersByTimeAsync(1_000)
  expect(fetched.state).toBe('failed')
})

test('commits up to the lowest unfinished record, together what finishes together', async () => {
  const { client, handled } = await start()
  void client.fetched(batchOf(0, 0, 3))
  await settle()
  handled[1]!.finish()
  await commitPause()
  expect(client.commits).toEqual([])
  handled[0]!.finish()
  handled[2]!.finish()
  await commitPause()
  expect(client.commits).toEqual([{ 0: 3 }])
})

test('a partition that stays in a rebalance is read on from where we are', async () => {
  const { client, handled, offsets } = await start()
  void client.fetched(batchOf(0, 0, 5))
  await settle()
  client.join('me', [0])
  expect(client.seeks).toEqual([{ partition: 0, offset: '5' }])
  for (const { finish } of handled) finish()
  await commitPause()
  expect(offsets()).toEqual([0, 1, 2, 3, 4])
  expect(client.commits).toEqual([{ 0: 3 }])
})

test('finishes what it has of a partition that has gone, commits nothing for it, hands out nothing more', async () => {
  const { client, handled, offsets } = await start()
  void client.fetched(batchOf(0, 0, 5))
  await settle()
  client.join('me', [1])
  for (const { finish } of handled) finish()
  await commitPause()
  expect(offsets()).toEqual([0, 1, 2])
  expect(client.commits).toEqual([])
})

test('records in hand are not dispatched again when its partition comes back', async () => {
  const { client, handled, offsets } = await start({ maxInFlight: 10 })
  void client.fetched(batchOf(0, 0, 3))
  await settle()
  handled[1]!.finish()
  client.join('me', [])
  client.join('me', [0])
  expect(client.seeks).toEqual([])
  void client.fetched(batchOf(0, 0, 4))
  await settle()
  expect(offsets()).toEqual([0, 1, 2, 3])
  handled[0]!.finish()
  await commitPause()
  expect(client.commits).toEqual([{ 0: 2 }])
})

test('two rebalances in a row, with nothing fetched in between, skip nothing', async () => {
  const { client, offsets } = await start()
  void client.fetched(batchOf(0, 0, 5))
  await settle()
  client.join('me again', [0])
  client.join('me again', [0])
  expect(client.seeks).toEqual([])
  void client.fetched(batchOf(0, 0, 5))
  await settle()
  expect(offsets()).toEqual([0, 1, 2])
})

test('a new identity at the broker means that others may have gone further', async () => {
  const { client, handled, offsets } = await start({ maxInFlight: 10 })
  void client.fetched(batchOf(0, 0, 2))
  await settle()
  client.join('me again', [0])
  expect(client.seeks).toEqual([])
  for (const { finish } of handled) finish()
  await commitPause()
  expect(client.commits).toEqual([])
  await client.fetched(batchOf(0, 7, 8))
  expect(offsets()).toEqual([0, 1])
  expect(client.resolved).toEqual(['1'])
  void client.fetched(batchOf(0, 7, 8))
  await settle()
  expect(offsets()).toEqual([0, 1, 7])
})

test('leaves out what was fetched before a rebalance', async () => {
  const { client, offsets } = await start()
  client.stale = true
  await client.fetched(batchOf(0, 0, 2))
  client.stale = false
  client.join('me', [1])
  await client.fetched(batchOf(0, 0, 2))
  expect(offsets()).toEqual([])
  expect(client.resolved).toEqual([])
})

test('a topic that was made anew is handled from its first record on', async () => {
  const { client, handled, offsets } = await start({ maxInFlight: 10 })
  void client.fetched(batchOf(0, 5, 8))
  await settle()
  void client.fetched(batchOf(0, 0, 2))
  await settle()
  expect(offsets()).toEqual([5, 6, 7, 0, 1])
  for (const { finish } of handled) finish()
  await commitPause()
  expect(client.commits).toEqual([{ 0: 2 }])
})

test('joins again after every crash, reports it, and goes on with records in hand', async () => {
  const { clients, client, handled, offsets, errors } = await start({ maxInFlight: 10 })
  void client.fetched(batchOf(0, 0, 2))
  await settle()
  client.crash(new Error('no coordinator'))
  await vi.advanceTimersByTimeAsync(1_000)
  expect(clients).toHaveLength(2)
  expect(client.disconnects).toBe(1)
  expect(errors).toMatchObject([{ name: 'StreamUnavailableError', cause: { message: 'no coordinator' } }])
  const next = clients[1]!
  next.join('me anew', [0])
  handled[0]!.finish()
  void next.fetched(batchOf(0, 0, 3))
  await settle()
  expect(offsets()).toEqual([0, 1, 2])
  await commitPause()
  expect(next.commits).toEqual([{ 0: 1 }])
})

test('commits again what could not be committed, and is silent about rebalances', async () => {
  const { client, handled, errors } = await start()
  void client.fetched(batchOf(0, 0, 1))
  await settle()
  client.commitError = Object.assign(new Error('rebalancing'), { type: 'REBALANCE_IN_PROGRESS' })
  handled[0]!.finish()
  await commitPause()
  expect(errors).toEqual([])
  client.commitError = undefined
  await vi.advanceTimersByTimeAsync(1_000)
  expect(client.commits).toEqual([{ 0: 1 }])
})

test('closing waits for handlers, commits what they finish, and leaves the group', async () => {
  const { consumer, clients, client, handled, offsets } = await start({ maxInFlight: 1 })
  const fetched = watch(client.fetched(batchOf(0, 0, 2)))
  await settle()
  const closed = watch(consumer.close(60_000))
  await vi.advanceTimersByTimeAsync(2_000)
  expect(closed.state).toBe('pending')
  expect(client.heartbeats).toBeGreaterThan(0)
  handled[0]!.finish()
  await settle()
  expect(closed.state).toBe('done')
  expect(fetched.state).toBe('done')
  expect(offsets()).toEqual([0])
  expect(client.commits).toEqual([{ 0: 1 }])
  expect(client.disconnects).toBe(1)
  expect(clients).toHaveLength(1)
})

test('a fetch has room for all partitions, and for the largest batch of each', () => {
  expect(fetchSizes(1)).toEqual({ maxBytesPerPartition: 8 * 1024 ** 2, maxBytes: 8 * 1024 ** 2 })
  for (const partitions of [4, 12, 100]) {
    const { maxBytesPerPartition, maxBytes } = fetchSizes(partitions)
    expect(maxBytesPerPartition).toBeGreaterThanOrEqual(1024 ** 2)
    expect(maxBytes).toBeGreaterThanOrEqual(partitions * maxBytesPerPartition)
  }
})

test('what waits for a place of its owner is left to the next owner of its partition', async () => {
  const sharing = { ownerOf: () => 'acme', perOwner: 2, waiting: 10 }
  const { client, handled, offsets } = await start({ sharing })
  void client.fetched(batchOf(0, 0, 5))
  void client.fetched(batchOf(1, 10, 12))
  await settle()
  expect(offsets()).toEqual([0, 1])
  client.join('me', [1])
  handled[0]!.finish()
  await settle()
  expect(offsets()).toEqual([0, 1, 10])
  handled[1]!.finish()
  handled[2]!.finish()
  await settle()
  expect(offsets()).toEqual([0, 1, 10, 11])
  await commitPause()
  expect(client.commits).toEqual([{ 1: 11 }])

  client.join('me', [0, 1])
  void client.fetched(batchOf(0, 2, 5))
  await settle()
  expect(offsets()).toEqual([0, 1, 10, 11, 2])
})
