import { TurbineError } from '../../edge/contract/errors.ts'
import { groups, topics } from '../../edge/contract/topics.ts'
import { BaseError } from '../../infra/errors.ts'
import { isRetriable } from '../../infra/retry.ts'
import type { ConsumedRecord, Stream, StreamRecord } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { sleep } from '../../infra/timing.ts'

/** What is done with the records of a topic. */
export interface RecordHandler {
  /** As `handle` of `ConsumeOptions`: idempotent; a rejection means that the record was not dealt with. */
  handle(record: ConsumedRecord, signal: AbortSignal): Promise<void>
  /**
   * Tells whoever waits for the record's result that there will be none. The record lies with the dead letters then.
   * It comes again until it fulfils.
   */
  onDead?(record: ConsumedRecord, cause: unknown): Promise<void>
}

export interface DeadLetterOptions {
  stream: Pick<Stream, 'send'>
  /** Failures of one record after which it is given up; default 3. */
  attempts?: number
  /** Whether an error says nothing about the record, so that it is to come again however often; default `isOutage`. */
  isOutage?(error: unknown): boolean
  /** Told of every record that was given up. */
  onDeadLetter?(cause: unknown, record: ConsumedRecord): void
}

/** What another attempt cannot change; the devices have tried `inference_failed` several times already. */
const hopeless: ReadonlySet<string> = new Set(['record_unreadable', 'inference_failed', 'process_killed'])

const isHopeless = (error: unknown) => error instanceof TurbineError && hopeless.has(error.code)

/** Whether an error will pass with time: a store or a stream that is away, a process that shuts down. */
export const isOutage = (error: unknown) => isRetriable(error) && !isHopeless(error)

/** What is known of a record that failed. */
interface History {
  failures: number
  /** Set once the record lies with the dead letters. */
  dead?: { cause: unknown }
}

/**
 * Keeps a record that cannot be handled from holding up those behind it. One that cannot be read, or whose handling
 * failed three times for a reason of its own, goes to the dead letters with its origin and its cause; then it counts
 * as handled. Through outages a record comes again for ever. Failures are counted in memory.
 *
 * @example
 * await stream.consume({ topic, group, maxInFlight, handle: withDeadLetters(jobs, { stream }) })
 */
export function withDeadLetters(
  { handle, onDead }: RecordHandler,
  options: DeadLetterOptions,
): RecordHandler['handle'] {
  const { stream, attempts = 3, onDeadLetter } = options
  const passes = options.isOutage ?? isOutage
  const histories = new Map<string, History>()

  return async (record, signal) => {
    const place = placeOf(record)
    const history = histories.get(place) ?? { failures: 0 }
    try {
      if (!history.dead) await handle(record, signal)
    } catch (cause) {
      if (signal.aborted || passes(cause)) throw cause
      history.failures++
      histories.set(place, history)
      if (history.failures < attempts && !isHopeless(cause)) throw cause
      await stream.send(topics.deadLetter, [encodeDeadLetter(record, cause, history.failures)])
      history.dead = { cause }
      onDeadLetter?.(cause, record)
    }
    if (history.dead) await onDead?.(record, history.dead.cause)
    histories.delete(place)
  }
}

const placeOf = ({ topic, partition, offset }: ConsumedRecord) => `${topic}/${partition}/${offset}`

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
const originHeaders = new Set(['origin-topic', 'origin-partition', 'origin-offset', 'cause', 'attempts'])
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
  const headers = Object.entries(letter.headers).filter(([name]) => !originHeaders.has(name))
  return {
    topic,
    record: {
      key: letter.key,
      value: letter.value,
      headers: { ...Object.fromEntries(headers), [retryHeader]: '1' },
    },
  }
}

/** Letters that nobody has dealt with, the oldest first, at most `limit`. Takes none. */
export function peekDeadLetters(stream: Pick<Stream, 'peek'>, limit: number): Promise<ConsumedRecord[]> {
  return stream.peek(topics.deadLetter, groups.deadLetter, limit)
}

/** Sends a letter's record to the topic that it came from. False when the letter does not say which that is. */
export async function resendDeadLetter(
  stream: Pick<Stream, 'send'>,
  letter: ConsumedRecord,
): Promise<boolean> {
  const revived = reviveDeadLetter(letter)
  if (revived) await stream.send(revived.topic, [revived.record])
  return revived !== undefined
}

export interface ResendOptions {
  stream: Pick<Stream, 'consume' | 'peek' | 'send'>
  /** Told of every letter whose record was sent. */
  onResent(letter: ConsumedRecord): void
  /** Told of every letter that does not say where its record came from; it is taken off the list too. */
  onOrphan(letter: ConsumedRecord): void
  /** Pause between looks at what is left, ms; default 200. */
  pollMs?: number
  /** Unix ms. */
  now(): number
}

/**
 * Sends the records of all letters to the topics that they came from, and takes the letters off the list. Letters
 * that come in meanwhile stay: a record that dies again at once is not sent round and round.
 * @throws StreamUnavailableError when a record cannot be sent; its letter stays, and so do those behind it
 */
export async function resendDeadLetters(options: ResendOptions): Promise<void> {
  const { stream, onResent, onOrphan, pollMs = 200, now } = options
  const startedAt = now()
  const failing = new AbortController()
  const isDue = ({ timestamp }: ConsumedRecord) => timestamp <= startedAt

  const consumer = await stream.consume({
    topic: topics.deadLetter,
    group: groups.deadLetter,
    maxInFlight: 8,
    async handle(letter) {
      if (!isDue(letter)) throw new NotDueError()
      if (await resendDeadLetter(stream, letter)) onResent(letter)
      else onOrphan(letter)
    },
    onError: (error) => {
      if (!(error instanceof NotDueError)) failing.abort(error)
    },
  })
  try {
    // The list loses a letter when it is committed, shortly after its record was sent.
    while ((await peekDeadLetters(stream, 1)).some(isDue)) {
      await sleep(pollMs, failing.signal)
      failing.signal.throwIfAborted()
    }
  } finally {
    await consumer.close()
  }
}

/** The letter came after the retry began. */
class NotDueError extends BaseError {
  override readonly retriable = true
}

/** Tells of records that were given up, in the log and as a metric. */
export function watchDeadLetters({ metrics, log }: { metrics: Metrics; log: Pick<Logger, 'error'> }) {
  const deadLetters = metrics.counter({
    name: 'dead_letters_total',
    help: 'Records that were given up and lie with the dead letters, by their topic.',
    labelNames: ['topic'],
  })
  return (err: unknown, { topic }: ConsumedRecord): void => {
    deadLetters.inc({ topic })
    log.error({ err, topic }, 'a record went to the dead letters')
  }
}
