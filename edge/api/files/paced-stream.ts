import { BaseError } from '../../../infra/errors.ts'

/** The reader of a stream takes it too slowly. */
export class SlowReaderError extends BaseError {}

/** A reader's rate is judged after it has made the service wait for this long, ms. */
const windowMs = 120_000
/** Least rate of a reader, bytes per ms. */
const leastRate = 8

export interface PacedStreamOptions {
  /** The first chunk, read already. */
  first: IteratorResult<Uint8Array>
  /** The chunks behind it; returned when the stream ends. */
  chunks: AsyncGenerator<Uint8Array>
  /** Time in which the reader must take the next chunk, ms. */
  stallMs: number
  /** Unix ms. */
  now(): number
  /** Called once: with the failure, or without one after the last chunk and when the reader cancels. */
  end(error?: unknown): void
  /** The reader is told of a failure by `end` alone; the stream itself stays as it is. */
  silent: boolean
}

/**
 * Streams chunks to a reader who must not be too slow: each is to be taken within `stallMs`, and over two minutes of
 * waiting for the reader at least 8 kB/s. Time in which the reader waits for chunks does not count.
 */
export function pacedStream({
  first,
  chunks,
  stallMs,
  now,
  end,
  silent,
}: PacedStreamOptions): ReadableStream<Uint8Array> {
  const pace = new ReaderPace(now)
  let next: IteratorResult<Uint8Array> | undefined = first
  let timer: ReturnType<typeof setTimeout> | undefined
  let ended = false

  const finish = (error?: unknown) => {
    if (ended) return
    ended = true
    clearTimeout(timer)
    end(error)
    // Waits for a read in progress, which `end` stops.
    chunks.return(undefined).catch(() => {})
  }
  const fail = (controller: ReadableStreamDefaultController, error: unknown) => {
    finish(error)
    if (!silent) controller.error(error)
  }
  const awaitReader = (controller: ReadableStreamDefaultController) => {
    pace.waitsForReader()
    const slow = () => fail(controller, new SlowReaderError(`The reader took nothing for ${stallMs} ms.`))
    timer = setTimeout(slow, stallMs)
  }

  return new ReadableStream<Uint8Array>(
    {
      start: awaitReader,
      async pull(controller) {
        clearTimeout(timer)
        try {
          pace.readerCame()
          const { done, value } = next ?? (await chunks.next())
          next = undefined
          if (ended) return
          if (done) {
            finish()
            return controller.close()
          }
          pace.handsOut(value.byteLength)
          controller.enqueue(value)
          awaitReader(controller)
        } catch (error) {
          if (!ended) fail(controller, error)
        }
      },
      cancel: () => finish(),
    },
    { highWaterMark: 0 },
  )
}

/** Measures a reader's rate over the time in which the service waits for it. */
class ReaderPace {
  readonly #now: () => number
  #since = 0
  #waitedMs = 0
  #bytes = 0

  constructor(now: () => number) {
    this.#now = now
  }

  handsOut(bytes: number): void {
    this.#bytes += bytes
  }

  waitsForReader(): void {
    this.#since = this.#now()
  }

  /** @throws SlowReaderError when the window is over and the reader was too slow in it */
  readerCame(): void {
    this.#waitedMs += Math.max(0, this.#now() - this.#since)
    if (this.#waitedMs < windowMs) return
    const rate = this.#bytes / this.#waitedMs
    if (rate < leastRate) throw new SlowReaderError(`The reader took ${rate.toFixed(1)} kB/s.`)
    this.#waitedMs = 0
    this.#bytes = 0
  }
}
