import { DurableObject } from 'cloudflare:workers'
import { Kafka } from 'kafkajs'
import { explainFailure, type KafkaOptions, kafkaConfig } from '../../infra/stream/kafka-connection.ts'
import { KafkaProducer } from '../../infra/stream/kafka-producer.ts'
import type { StreamRecord } from '../../infra/stream/stream.ts'
import { topics } from '../contract/topics.ts'
import { createConsoleLog } from './console-log.ts'
import { type WorkerEnv, workerConfig } from './env.ts'
import type { ProducerCalls, SendOutcome } from './producer-pool.ts'

/** An isolate has 128 MB and can hold several producers; kafkajs copies records a few times. */
const maxQueuedBytes = 8 * 1024 * 1024
/** A send acknowledged within this time proves that Kafka is reachable, ms. */
const provenMs = 10_000
/** Time that the result of a check is reused, ms. */
const keepFaultMs = 2_000

/**
 * Holds a connection to Kafka for all requests. After an eviction, or when Cloudflare closes the connection (after at
 * most 15 minutes), the next record opens another one.
 */
export class ProducerObject extends DurableObject<WorkerEnv> implements ProducerCalls {
  readonly #kafka: KafkaOptions
  readonly #producer: KafkaProducer
  readonly #sends = new Map<string, AbortController>()
  #acknowledgedAt = Number.NEGATIVE_INFINITY
  #checked: { at: number; fault: Promise<string | undefined> } | undefined

  constructor(context: unknown, env: WorkerEnv) {
    super(context, env)
    const { kafka, logLevel } = workerConfig(env)
    const log = createConsoleLog({ level: logLevel })
    this.#kafka = { ...kafka, onLog: (level, message, fields) => log[level](fields, message) }
    this.#producer = new KafkaProducer({ ...this.#kafka, maxQueuedBytes })
  }

  async send(ticket: string, topic: string, records: StreamRecord[]): Promise<SendOutcome> {
    const abandoned = new AbortController()
    this.#sends.set(ticket, abandoned)
    try {
      await this.#producer.send(topic, records, { signal: abandoned.signal })
      this.#acknowledgedAt = Date.now()
      return { sent: true }
    } catch (error) {
      const { name, message } = error instanceof Error ? error : new Error(String(error))
      return { sent: false, name, message }
    } finally {
      this.#sends.delete(ticket)
    }
  }

  async abandon(ticket: string): Promise<void> {
    this.#sends.get(ticket)?.abort()
  }

  /** Called by readiness checks, so the result is reused for a moment. */
  async fault(): Promise<string | undefined> {
    if (Date.now() - this.#acknowledgedAt < provenMs) return undefined
    if (!this.#checked || Date.now() - this.#checked.at >= keepFaultMs)
      this.#checked = { at: Date.now(), fault: this.#check() }
    return this.#checked.fault
  }

  async #check(): Promise<string | undefined> {
    // Without retries and logs: the caller gets the reason.
    const kafka = new Kafka({ ...kafkaConfig({ ...this.#kafka, onLog: undefined }), retry: { retries: 0 } })
    const admin = kafka.admin()
    try {
      await admin.connect()
      await admin.fetchTopicMetadata({ topics: [topics.interactive] })
      return undefined
    } catch (error) {
      return explainFailure(error, this.#kafka)
    } finally {
      await admin.disconnect().catch(() => undefined)
    }
  }
}
