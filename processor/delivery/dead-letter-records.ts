import { topics } from '../../edge/contract/topics.ts'
import type { ConsumedRecord, StreamRecord } from '../../infra/stream/stream.ts'

/** What a dead letter says about itself. */
export interface DeadLetter {
  /** Key of the record: the id of a caption or a batch, `<batch>/<number>` for a shard. */
  id: string
  tenant: string
  /** Where the record was handled in vain. */
  origin: { topic: string; partition: number; offset: string }
  /** Message of the error. */
  cause: string
  /** How often the record was handled. */
  attempts: number
  /** When it came to the dead letters, unix ms. */
  at: number
  /** Bytes of the record's value. */
  bytes: number
}

/** On records that were sent again out of the dead letters. */
const retryHeader = 'retry'
const originHeaders = ['origin-topic', 'origin-partition', 'origin-offset', 'cause', 'attempts'] as const
/** Characters of the cause that are kept. */
const maxCauseLength = 1000

const origins: ReadonlySet<string> = new Set([topics.interactive, topics.batch, topics.control])

/** Whether somebody asked for the record to be handled once more although it came to nothing before. */
export const isRetry = ({ headers }: Pick<StreamRecord, 'headers'>) => headers[retryHeader] !== undefined

/** The record as it is kept among the dead letters: its value untouched, its origin and the cause in headers. */
export function encodeDeadLetter(record: ConsumedRecord, cause: unknown, attempts: number): StreamRecord {
  const { key, value, headers, topic, partition, offset } = record
  const message = cause instanceof Error ? cause.message : String(cause)
  return {
    key,
    value,
    headers: {
      ...headers,
      'origin-topic': topic,
      'origin-partition': String(partition),
      'origin-offset': String(offset),
      cause: message.slice(0, maxCauseLength),
      attempts: String(attempts),
    },
  }
}

/** What is left out of a letter that nobody of ours wrote is empty. */
export function describeDeadLetter({ key, value, headers, timestamp }: ConsumedRecord): DeadLetter {
  return {
    id: key,
    tenant: headers.tenant ?? '',
    origin: {
      topic: headers['origin-topic'] ?? '',
      partition: Number(headers['origin-partition'] ?? 0),
      offset: headers['origin-offset'] ?? '',
    },
    cause: headers.cause ?? '',
    attempts: Number(headers.attempts ?? 0),
    at: timestamp,
    bytes: value.length,
  }
}

/**
 * The record as it was, for the topic that it came from, marked as sent again. Undefined when the letter does not say
 * where that is.
 */
export function reviveDeadLetter(
  letter: ConsumedRecord,
): { topic: string; record: StreamRecord } | undefined {
  const { 'origin-topic': topic = '' } = letter.headers
  if (!origins.has(topic)) return undefined
  const headers = Object.entries(letter.headers).filter(([name]) => !isOriginHeader(name))
  return {
    topic,
    record: {
      key: letter.key,
      value: letter.value,
      headers: { ...Object.fromEntries(headers), [retryHeader]: '1' },
    },
  }
}

const isOriginHeader = (name: string) => (originHeaders as readonly string[]).includes(name)
