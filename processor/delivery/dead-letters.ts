import { TurbineError } from '../../edge/contract/errors.ts'
import { groups, isJobTopic, topics } from '../../edge/contract/topics.ts'
import { BaseError } from '../../infra/errors.ts'
import { isRetriable } from '../../infra/retry.ts'
import type { ConsumedRecord, Stream, StreamRecord } from '../../infra/stream/stream.ts'
import type { Logger } from '../../infra/telemetry/log.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { sleep } from '../../infra/timing.ts'

/** Handler of a topic's records. */
export interface RecordHandler {
  /** As `handle` of `ConsumeOptions`: idempotent; rejects when the record was not handled. */
  handle(record: ConsumedRecord, signal: AbortSignal): Promise<void>
  /**
   * Reports the failure to a caller that waits for the result, after the record went to the dead letters. Retried until
   * it fulfils.
   */
  onDead?(record: ConsumedRecord, cause: unknown): Promise<void>
}

export interface DeadLetterOptions {
  stream: Pick<Stream, 'send'>
  /** Failures after which a record goes to the dead letters; default 3. */
  attempts?: number
  /** Recognises errors that do not count against the record; default `isOutage`. */
  isOutage?(error: unknown): boolean
  /** Called with every dead letter. */
  onDeadLetter?(cause: unknown, record: ConsumedRecord): void
}

/** Errors that a retry cannot fix; the devices have retried `inference_failed` already. */
const permanentCodes: ReadonlySet<string> = new Set([
  'record_unreadable',
  'inference_failed',
  'process_killed',
])

const isPermanent = (error: unknown) => error instanceof TurbineError && permanentCodes.has(error.code)

/** Recognises transient errors: a store or a stream that is unavailable, a process that shuts down. */
export const isOutage = (error: unknown) => isRetriable(error) && !isPermanent(error)

/** Failures of a record. */
interface History {
  failures: number
  /** Set once the record is in the dead letters. */
  dead?: { cause: unknown }
}

/**
 * Sends records that cannot be handled to the dead letters, so that they do not block those behind them: at once when
 * they cannot be read, else after three failures. Outages do not count. Failures are counted in memory.
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
      if (history.failures < attempts && !isPermanent(cause)) throw cause
      await stream.send(topics.deadLetter, [encodeDeadLetter(record, cause, history.failures)])
      history.dead = { cause }
      onDeadLetter?.(cause, record)
    }
    if (history.dead) await onDead?.(record, history.dead.cause)
    histories.delete(place)
  }
}

const placeOf = ({ topic, partition, offset }: ConsumedRecord) => `${topic}/${partition}/${offset}`

/** Description of a dead letter. */
export interface DeadLetter {
  /** Key of the record: the id of a caption or a batch, `<batch>/<number>` for a shard. */
  id: string
  tenant: string
  origin: { topic: string; partition: number; offset: string }
  /** Message of the error. */
  cause: string
  attempts: number
  /** Time at which it became a dead letter, unix ms. */
  at: number
  /** Bytes of the record's value. */
  bytes: number
}

/** Marks records that were resent from the dead letters. */
const retryHeader = 'retry'
const originHeaders = new Set(['origin-topic', 'origin-partition', 'origin-offset', 'cause', 'attempts'])
const maxCauseLength = 1000

/** Recognises records that were resent from the dead letters. */
export const isRetry = ({ headers }: Pick<StreamRecord, 'headers'>) => headers[retryHeader] !== undefined

/** Creates a dead letter: the record with its origin and the cause in headers. */
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

/** Fields missing from a foreign letter are empty. */
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
 * Restores the original record, marked as resent, and its topic. Undefined when the letter has no known origin.
 */
export function reviveDeadLetter(
  letter: ConsumedRecord,
): { topic: string; record: StreamRecord } | undefined {
  const { 'origin-topic': topic = '' } = letter.headers
  if (!isJobTopic(topic) && topic !== topics.control) return undefined
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

/** Lists pending letters, the oldest first, at most `limit`; commits nothing. */
export function peekDeadLetters(stream: Pick<Stream, 'peek'>, limit: number): Promise<ConsumedRecord[]> {
  return stream.peek(topics.deadLetter, groups.deadLetter, limit)
}

/** Resends a letter's record to its original topic. False when that is unknown. */
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
  /** Called for every resent letter. */
  onResent(letter: ConsumedRecord): void
  /** Called for every letter without a known origin; it is removed too. */
  onOrphan(letter: ConsumedRecord): void
  /** Polling interval, ms; default 200. */
  pollMs?: number
  /** Unix ms. */
  now(): number
}

/**
 * Resends all letters to their original topics and removes them. Letters that arrive meanwhile stay, so that a record
 * that fails again does not loop.
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
    // A letter is removed when it is committed, shortly after its record was sent.
    while ((await peekDeadLetters(stream, 1)).some(isDue)) {
      await sleep(pollMs, failing.signal)
      failing.signal.throwIfAborted()
    }
  } finally {
    await consumer.close()
  }
}

/** The letter is newer than the resend. */
class NotDueError extends BaseError {
  override readonly retriable = true
}

/** Logs and counts dead letters. */
export function watchDeadLetters({ metrics, log }: { metrics: Metrics; log: Pick<Logger, 'error'> }) {
  const deadLetters = metrics.counter({
    name: 'dead_letters_total',
    help: 'Records sent to the dead letters, by topic.',
    labelNames: ['topic'],
  })
  return (err: unknown, { topic }: ConsumedRecord): void => {
    deadLetters.inc({ topic })
    log.error({ err, topic }, 'record sent to the dead letters')
  }
}
