import { type Message, Partitioners, type ProducerRecord } from 'kafkajs'
import { backoffMs } from '../retry.ts'
import { sleep, within } from '../timing.ts'
import { countFitting, partsOf, type Size, type SizedMessage, sizedMessage, sumOf } from './kafka-batch.ts'
import {
  createKafka,
  explainFailure,
  isRefusal,
  type KafkaOptions,
  protocolErrorType,
  unknownTopic,
} from './kafka-connection.ts'
import { RecordTooLargeError, type SendOptions, type StreamRecord, StreamUnavailableError } from './stream.ts'

/** The part of a kafkajs producer that is used. */
export interface ProducerClient {
  connect(): Promise<void>
  send(record: ProducerRecord): Promise<unknown>
  disconnect(): Promise<void>
}

export interface KafkaProducerOptions extends KafkaOptions {
  /**
   * Maximum bytes of one send; a larger record goes alone. Records of one partition that go out together count together
   * against their topic's `max.message.bytes` (1 MiB unless it is set).
   */
  maxBytesPerSend?: number
  maxRecordsPerSend?: number
  /** Maximum bytes of records in the queue and in flight; further sends are rejected at once. */
  maxQueuedBytes?: number
  /** Time limit of a send, ms. */
  sendTimeoutMs?: number
  /** Makes an idempotent producer that is not connected yet. */
  createClient?: () => ProducerClient
}

/** Records of one topic that succeed or fail together. */
interface Entry {
  topic: string
  messages: Message[]
  size: Size
  settled: PromiseWithResolvers<void>
}

/**
 * Sends records to Kafka once each, in order, and reports them as sent when every in-sync replica has them. It needs no
 * Node, and connects with the first record. The README of this folder explains batching and failed sends.
 */
export class KafkaProducer {
  readonly #options: KafkaProducerOptions
  /** Limits of one send. */
  readonly #limits: Size
  readonly #maxQueuedBytes: number
  readonly #sendTimeoutMs: number
  readonly #createClient: () => ProducerClient
  readonly #closing = new AbortController()
  #queue: Entry[] = []
  /** Bytes of the queue and of the send in flight. */
  #queuedBytes = 0
  #sending: Promise<void> | undefined
  #client: ProducerClient | undefined
  #connectFailure: unknown

  constructor(options: KafkaProducerOptions) {
    this.#options = options
    const { maxBytesPerSend = 900_000, maxRecordsPerSend = 1_000 } = options
    this.#limits = { bytes: maxBytesPerSend, records: maxRecordsPerSend }
    this.#maxQueuedBytes = options.maxQueuedBytes ?? 32 * 1024 * 1024
    this.#sendTimeoutMs = options.sendTimeoutMs ?? 30_000
    this.#createClient = options.createClient ?? (() => idempotentProducer(options))
  }

  /**
   * Resolves when Kafka has all records durably. The records' bytes are not copied: leave them as they are until then.
   * More records than fit into one send go out one part after the other, and a failed part ends it.
   *
   * @throws StreamUnavailableError, UnknownTopicError, RecordTooLargeError; the signal's reason when it aborts
   */
  async send(topic: string, records: StreamRecord[], { signal }: SendOptions = {}): Promise<void> {
    for (const part of partsOf(records.map(sizedMessage), this.#limits)) await this.#send(topic, part, signal)
  }

  /** Waits at most the time of a send for what is queued, then disconnects. */
  async close(): Promise<void> {
    this.#closing.abort()
    await this.#sending
    await this.#client?.disconnect().catch(() => {})
    this.#client = undefined
  }

  async #send(topic: string, part: SizedMessage[], signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted()
    if (this.#closing.signal.aborted) throw new StreamUnavailableError('The connection to Kafka is closed.')
    const entry = entryOf(topic, part)
    if (this.#queuedBytes > 0 && this.#queuedBytes + entry.size.bytes > this.#maxQueuedBytes)
      throw new StreamUnavailableError(
        `The send queue for Kafka is full (${this.#queuedBytes} bytes). Try again later.`,
      )
    this.#queue.push(entry)
    this.#queuedBytes += entry.size.bytes
    const onAbort = () => this.#withdraw(entry, signal!.reason)
    signal?.addEventListener('abort', onAbort, { once: true })
    const timer = setTimeout(() => this.#withdraw(entry, this.#timeoutError()), this.#sendTimeoutMs)
    this.#sending ??= this.#sendQueue()
    try {
      await entry.settled.promise
    } finally {
      clearTimeout(timer)
      signal?.removeEventListener('abort', onAbort)
    }
  }

  /** Rejects an entry and removes it from the queue. Bytes in flight count until the send has ended. */
  #withdraw(entry: Entry, reason: unknown): void {
    entry.settled.reject(reason)
    if (!this.#queue.includes(entry)) return
    this.#queue = this.#queue.filter((other) => other !== entry)
    this.#queuedBytes -= entry.size.bytes
  }

  async #sendQueue(): Promise<void> {
    // Records sent in the same tick go out together, also when nothing is in flight.
    await undefined
    while (this.#queue.length > 0) {
      const client = await this.#connected()
      if (client) await this.#sendBatch(client, this.#nextBatch())
    }
    this.#sending = undefined
  }

  /** Connects the producer, with retries; undefined once the queue is empty. */
  async #connected(): Promise<ProducerClient | undefined> {
    for (let failures = 0; this.#queue.length > 0; ) {
      try {
        this.#client ??= await this.#connect()
        return this.#client
      } catch (error) {
        this.#connectFailure = error
        if (isRefusal(error) || this.#closing.signal.aborted) this.#refuseQueue(error)
        await sleep(backoffMs(++failures), this.#closing.signal)
      }
    }
    return undefined
  }

  async #connect(): Promise<ProducerClient> {
    const client = this.#createClient()
    const connected = client.connect()
    try {
      await this.#inTime(connected)
      return client
    } catch (error) {
      void disconnectForGood(client, connected)
      throw error
    }
  }

  #refuseQueue(cause: unknown): void {
    const error = new StreamUnavailableError(explainFailure(cause, this.#options), { cause })
    for (const entry of this.#queue) this.#withdraw(entry, error)
  }

  /** Takes the oldest entries of one topic that fit into one send. One topic, so that its failures are its own. */
  #nextBatch(): Entry[] {
    const topic = this.#queue[0]?.topic
    const ofTopic = this.#queue.filter((entry) => entry.topic === topic)
    const sizes = ofTopic.map(({ size }) => size)
    const batch = new Set(ofTopic.slice(0, countFitting(sizes, this.#limits)))
    this.#queue = this.#queue.filter((entry) => !batch.has(entry))
    return [...batch]
  }

  async #sendBatch(client: ProducerClient, batch: Entry[]): Promise<void> {
    const [first] = batch
    if (!first) return
    const messages = batch.flatMap((entry) => entry.messages)
    const sent = client.send({ topic: first.topic, messages, acks: -1 })
    try {
      await this.#inTime(sent)
      for (const { settled } of batch) settled.resolve()
    } catch (cause) {
      this.#client = undefined
      void disconnectForGood(client, sent)
      const error = this.#sendError(cause, first.topic, messages.length)
      for (const { settled } of batch) settled.reject(error)
    } finally {
      this.#queuedBytes -= sumOf(batch.map(({ size }) => size)).bytes
    }
  }

  #sendError(cause: unknown, topic: string, records: number): Error {
    const type = protocolErrorType(cause)
    if (type === 'UNKNOWN_TOPIC_OR_PARTITION') return unknownTopic(topic, cause)
    if (type === 'MESSAGE_TOO_LARGE' && records === 1)
      return new RecordTooLargeError(
        `Record exceeds max.message.bytes of "${topic}". Raise it: npx turbine topics create.`,
        { cause },
      )
    return cause instanceof StreamUnavailableError
      ? cause
      : new StreamUnavailableError(explainFailure(cause, this.#options), { cause })
  }

  /** @throws StreamUnavailableError when it takes longer than a send may */
  #inTime<T>(work: Promise<T>): Promise<T> {
    return within(this.#sendTimeoutMs, work, () => this.#timeoutError())
  }

  #timeoutError(): StreamUnavailableError {
    const message = `Kafka did not acknowledge the records within ${this.#sendTimeoutMs} ms.`
    return new StreamUnavailableError(message, { cause: this.#client ? undefined : this.#connectFailure })
  }
}

function idempotentProducer(options: KafkaOptions): ProducerClient {
  return createKafka(options).producer({
    idempotent: true,
    maxInFlightRequests: 1,
    allowAutoTopicCreation: false,
    createPartitioner: Partitioners.DefaultPartitioner,
  })
}

/** Disconnects again after abandoned work, which continues within kafkajs and may reconnect. */
async function disconnectForGood(client: ProducerClient, work: Promise<unknown>): Promise<void> {
  await client.disconnect().catch(() => {})
  await work.catch(() => {})
  await client.disconnect().catch(() => {})
}

function entryOf(topic: string, part: SizedMessage[]): Entry {
  const messages = part.map(({ message }) => message)
  return { topic, messages, size: sumOf(part.map(({ size }) => size)), settled: Promise.withResolvers() }
}
