import { groups, topics } from '../../edge/contract/topics.ts'
import { pause } from '../../infra/stream/backoff.ts'
import type { ConsumedRecord, Stream } from '../../infra/stream/stream.ts'
import { reviveDeadLetter } from './dead-letter-records.ts'

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
      await pause(pollMs, failing.signal)
      failing.signal.throwIfAborted()
    }
  } finally {
    await consumer.close()
  }
}

/** The letter came after the retry began. */
class NotDueError extends Error {
  override readonly name = 'NotDueError'
  readonly retriable = true
}
