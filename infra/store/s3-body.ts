import { unlessAborted, within } from '../timing.ts'

export interface ReceivedOptions {
  /** Translates a failure of the connection. */
  toError(error: unknown): Error
  /** Bytes that the response announced; a shorter body is a broken one. */
  bytes?: number
  /** Time that a read may wait for the next bytes, ms. */
  stallMs: number
  signal?: AbortSignal
}

/**
 * Wraps the body of a response: a broken or stalled connection becomes an error of the store, an aborted one the
 * signal's reason. Only time in which a reader waits counts, so slow readers do not time out.
 */
export function receivedBody(
  body: ReadableStream<Uint8Array>,
  { toError, bytes = 0, stallMs, signal }: ReceivedOptions,
): ReadableStream<Uint8Array> {
  const reader = body.getReader()
  let received = 0
  return new ReadableStream<Uint8Array>(
    {
      async pull(controller) {
        try {
          const next = unlessAborted(reader.read(), signal)
          const { done, value } = await within(stallMs, next, () => silence(stallMs))
          received += value?.byteLength ?? 0
          if (done && received < bytes) throw cutShort(received, bytes)
          if (done) controller.close()
          else controller.enqueue(value)
        } catch (error) {
          controller.error(signal?.aborted ? signal.reason : toError(error))
          reader.cancel(error).catch(() => {})
        }
      },
      cancel: (reason) => reader.cancel(reason),
    },
    { highWaterMark: 0 },
  )
}

const cutShort = (received: number, bytes: number) =>
  Object.assign(new Error(`The body ended after ${received} of ${bytes} bytes.`), { name: 'IncompleteBody' })

export const silence = (ms: number) =>
  Object.assign(new Error(`Nothing came for ${ms} ms.`), { name: 'TimeoutError' })

/** Stream being sent to S3. */
export interface SentBody {
  stream: ReadableStream<Uint8Array>
  /** Set when the stream itself failed, and not S3. */
  failure?: { error: unknown }
  /** Cancels the source. */
  cancel(reason: unknown): Promise<void>
}

/** Wraps a stream so that its own failure differs from one of S3. Beyond `maxBytes` it fails with `tooLarge()`. */
export function sentBody(
  body: ReadableStream<Uint8Array>,
  { maxBytes, tooLarge }: { maxBytes: number; tooLarge(): Error },
): SentBody {
  const reader = body.getReader()
  let size = 0
  const read = async () => {
    const { done, value } = await reader.read()
    size += value?.byteLength ?? 0
    if (size > maxBytes) throw tooLarge()
    return done ? undefined : value
  }
  const sent: SentBody = {
    stream: new ReadableStream<Uint8Array>(
      {
        async pull(controller) {
          try {
            const chunk = await read()
            if (chunk) controller.enqueue(chunk)
            else controller.close()
          } catch (error) {
            sent.failure = { error }
            controller.error(error)
          }
        },
      },
      { highWaterMark: 0 },
    ),
    cancel: (reason) => reader.cancel(reason).catch(() => {}),
  }
  return sent
}
