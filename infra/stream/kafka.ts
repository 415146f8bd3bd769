import type { Admin, Kafka } from 'kafkajs'
import {
  createKafka,
  explainFailure,
  type KafkaOptions,
  orOpenError,
  unknownTopic,
} from './kafka-connection.ts'
import { KafkaConsumer } from './kafka-consumer.ts'
import { type PartitionSlice, peekSlices } from './kafka-peek.ts'
import { KafkaProducer } from './kafka-producer.ts'
import {
  type ConsumedRecord,
  type ConsumeOptions,
  type Consumer,
  type GroupState,
  type SendOptions,
  type Stream,
  type StreamRecord,
  StreamUnavailableError,
  type TopicOptions,
  UnknownTopicError,
} from './stream.ts'
import { ensureTopics } from './topics.ts'

export interface KafkaStreamOptions extends KafkaOptions {
  /** Time without heartbeats after which a consumer loses its partitions, ms; default 10,000. */
  sessionTimeoutMs?: number
  /** Time limit of a send, ms; default 30,000. */
  sendTimeoutMs?: number
}

/**
 * Opens the job stream of a fleet, in Apache Kafka.
 *
 * @throws StreamOpenError when Kafka cannot be reached within about ten seconds, or refuses
 * @example
 * const stream = await openKafkaStream({ brokers: ['127.0.0.1:9092'] })
 * await stream.ensureTopics({ jobs: { partitions: 12, groups: ['workers'] } })
 * await stream.send('jobs', [{ key: 'a', value: bytes, headers: {} }])
 */
export async function openKafkaStream(options: KafkaStreamOptions): Promise<Stream> {
  const kafka = createKafka(options)
  const admin = await orOpenError(options, () => connectAdmin(kafka))
  return new KafkaStream(kafka, admin, options)
}

class KafkaStream implements Stream {
  readonly #kafka: Kafka
  readonly #options: KafkaStreamOptions
  readonly #producer: KafkaProducer
  readonly #consumers = new Set<Consumer>()
  /** Topics known to exist. */
  readonly #topics = new Set<string>()
  #admin: Promise<Admin> | undefined
  #closed: Promise<void> | undefined

  constructor(kafka: Kafka, admin: Admin, options: KafkaStreamOptions) {
    this.#kafka = kafka
    this.#options = options
    this.#producer = new KafkaProducer(options)
    this.#admin = Promise.resolve(admin)
  }

  async ensureTopics(topics: Record<string, TopicOptions>): Promise<void> {
    await this.#administer((admin) => ensureTopics(this.#kafka, admin, topics))
  }

  async send(topic: string, records: StreamRecord[], options?: SendOptions): Promise<void> {
    this.#assertOpen()
    await this.#producer.send(topic, records, options)
  }

  async consume(options: ConsumeOptions): Promise<Consumer> {
    const { brokers, sessionTimeoutMs } = this.#options
    const partitions = (await this.#positions(options.topic, options.group)).length
    this.#assertOpen()
    const consumer = new KafkaConsumer({
      ...options,
      brokers,
      sessionTimeoutMs,
      partitions,
      createClient: (config) => this.#kafka.consumer(config),
    })
    this.#consumers.add(consumer)
    return consumer
  }

  async lag(topic: string, group: string): Promise<number> {
    return lagOf(await this.#positions(topic, group))
  }

  async groupState(topic: string, group: string): Promise<GroupState> {
    const slices = await this.#positions(topic, group)
    const { groups } = await this.#administer((admin) => admin.describeGroups([group]))
    return {
      lag: lagOf(slices),
      taken: Number(slices.reduce((sum, { end }) => sum + end, 0n)),
      members: groups[0]?.members.length ?? 0,
      partitions: slices.length,
    }
  }

  async peek(topic: string, group: string, limit: number): Promise<ConsumedRecord[]> {
    const slices = await this.#positions(topic, group)
    try {
      return await peekSlices(this.#kafka, { topic, group, slices, limit })
    } catch (cause) {
      throw this.#unavailable(cause)
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#close()
    return this.#closed
  }

  async #close(): Promise<void> {
    await Promise.all([...this.#consumers].map((consumer) => consumer.close()))
    await this.#producer.close()
    await this.#disconnectAdmin()
  }

  /** Position of the group and end of the records, for each partition. */
  #positions(topic: string, group: string): Promise<PartitionSlice[]> {
    return this.#administer(async (admin) => {
      if (!this.#topics.has(topic) && !(await admin.listTopics()).includes(topic)) throw unknownTopic(topic)
      this.#topics.add(topic)
      // Committed offsets first: commits in between must not exceed the end.
      const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
      const offsets = await admin.fetchTopicOffsets(topic)
      const positions = new Map(
        committed?.partitions.map(({ partition, offset }) => [partition, BigInt(offset)]),
      )
      return offsets.map(({ partition, low, high }) => {
        const position = positions.get(partition) ?? -1n
        // Retention may have removed records that were never committed.
        const from = position < BigInt(low) ? BigInt(low) : position
        return { partition, from, end: BigInt(high) }
      })
    })
  }

  async #administer<T>(work: (admin: Admin) => Promise<T>): Promise<T> {
    this.#assertOpen()
    this.#admin ??= connectAdmin(this.#kafka)
    const admin = this.#admin
    try {
      return await work(await admin)
    } catch (cause) {
      if (cause instanceof UnknownTopicError) throw cause
      // The connection may be broken: the next call opens a new one.
      if (this.#admin === admin) void this.#disconnectAdmin()
      throw this.#unavailable(cause)
    }
  }

  async #disconnectAdmin(): Promise<void> {
    const admin = this.#admin
    this.#admin = undefined
    await admin?.then((connected) => connected.disconnect()).catch(() => {})
  }

  #unavailable(cause: unknown): StreamUnavailableError {
    return new StreamUnavailableError(explainFailure(cause, this.#options), { cause })
  }

  #assertOpen(): void {
    if (this.#closed) throw new StreamUnavailableError('The job stream is closed.')
  }
}

const lagOf = (slices: PartitionSlice[]) =>
  Number(slices.reduce((sum, { from, end }) => sum + (end - from), 0n))

async function connectAdmin(kafka: Kafka): Promise<Admin> {
  const admin = kafka.admin()
  await admin.connect()
  return admin
}
