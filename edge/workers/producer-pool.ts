import { partitionOf } from '../../infra/stream/partition.ts'
import {
  RecordTooLargeError,
  type SendOptions,
  type Stream,
  type StreamRecord,
  StreamUnavailableError,
  UnknownTopicError,
} from '../../infra/stream/stream.ts'
import { unlessAborted } from '../../infra/timing.ts'
import type { Background, ObjectNamespace } from './objects.ts'

/** Result of a send. Errors are sent between objects as data, because they lose their class otherwise. */
export type SendOutcome = { sent: true } | { sent: false; name: string; message: string }

/** Calls of a producer object. */
export interface ProducerCalls {
  /** Resolves when Kafka has the records, or with the reason of the failure. `ticket` identifies this send. */
  send(ticket: string, topic: string, records: StreamRecord[]): Promise<SendOutcome>
  /** Cancels a send that nobody waits for. */
  abandon(ticket: string): Promise<void>
  /** Reason why records cannot be sent now; undefined if they can. */
  fault(): Promise<string | undefined>
}

export interface ProducerPoolOptions {
  objects: ObjectNamespace<ProducerCalls>
  /** Number of objects. Few make large batches, which is cheap; many share the load, which is fast. */
  producers: number
  background: Background
  newId(): string
}

export interface ProducerPool extends Pick<Stream, 'send'> {
  /** @throws StreamUnavailableError when Kafka cannot be reached */
  assertReachable(): Promise<void>
}

/**
 * Sends records to Kafka through a pool of Durable Objects, since a request on Workers cannot keep a connection open
 * for the next one. Records with the same key use the same object, so they keep their order.
 */
export function createProducerPool({
  objects,
  producers,
  background,
  newId,
}: ProducerPoolOptions): ProducerPool {
  return {
    async send(topic, records, { signal }: SendOptions = {}) {
      const [first] = records
      if (!first) return
      signal?.throwIfAborted()
      const producer = objects.getByName(nameOf(partitionOf(first.key, producers)))
      const ticket = newId()
      const sending = producer.send(ticket, topic, records).catch(unreachable)
      const outcome = await unlessAborted(sending, signal).catch((reason: unknown) => {
        background(producer.abandon(ticket).catch(() => undefined))
        throw reason
      })
      if (!outcome.sent) throw asError(outcome)
    },
    async assertReachable() {
      const fault = await objects
        .getByName(nameOf(0))
        .fault()
        .catch((error: unknown) => unreachable(error).message)
      if (fault !== undefined) throw new StreamUnavailableError(fault)
    },
  }
}

const nameOf = (producer: number) => `producer-${producer}`

/** An object is unreachable for a moment after a deployment, or when overloaded. */
const unreachable = (error: unknown) => ({
  sent: false as const,
  name: 'StreamUnavailableError',
  message: `The edge's producer is unreachable: ${error instanceof Error ? error.message : String(error)}`,
})

const errors: Record<string, new (message: string) => Error> = {
  UnknownTopicError,
  RecordTooLargeError,
}

const asError = ({ name, message }: Extract<SendOutcome, { sent: false }>) =>
  new (errors[name] ?? StreamUnavailableError)(message)
