import { TurbineError } from '../../edge/contract/errors.ts'
import { topics } from '../../edge/contract/topics.ts'
import type { ConsumedRecord, Stream } from '../../infra/stream/stream.ts'
import { encodeDeadLetter } from './dead-letter-records.ts'

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
export const isOutage = (error: unknown) =>
  error instanceof Error && 'retriable' in error && error.retriable === true && !isHopeless(error)

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
