import { within } from '../../infra/timing.ts'
import { TurbineError } from '../contract/errors.ts'

/** Time that a sender may be silent or behind the least rate, ms. */
export const bodyPatienceMs = 30_000

export interface BodySourceOptions {
  /** Minimum bytes per second; 0: any rate. */
  minRate: number
  /** Monotonic time, ms. */
  now?(): number
}

/**
 * Passes a body's chunks on as long as they arrive at the least rate, with a slack of 30 s, which is also the time for
 * the first byte. Only waiting for the sender counts, so a slow reader, e.g. the store of an upload, is not blamed on it.
 * @throws TurbineError `body_too_slow`
 */
export async function* atLeastRate(
  chunks: AsyncIterator<Uint8Array>,
  { minRate, now = () => performance.now() }: BodySourceOptions,
): AsyncGenerator<Uint8Array> {
  let slackMs = bodyPatienceMs
  try {
    while (true) {
      const askedAt = now()
      const next = minRate > 0 ? within(slackMs, chunks.next(), tooSlow) : chunks.next()
      const { done, value } = await next
      if (done) return
      const gainedMs = (value.byteLength * 1000) / minRate
      slackMs = Math.min(bodyPatienceMs, slackMs - (now() - askedAt) + gainedMs)
      yield value
    }
  } finally {
    // Not awaited: a source that is silent may never answer.
    void chunks.return?.().catch(() => undefined)
  }
}

/** Chunks of a request's body on platforms without a faster way. */
export function chunksOf(body: ReadableStream<Uint8Array> | null): AsyncIterator<Uint8Array> {
  if (!body) return { next: async () => ({ done: true, value: undefined }) }
  const reader = body.getReader()
  return {
    async next() {
      const { done, value } = await reader.read()
      return done ? { done, value: undefined } : { done, value }
    },
    async return() {
      await reader.cancel()
      return { done: true, value: undefined }
    },
  }
}

const tooSlow = () =>
  new TurbineError(
    `The body arrives too slowly: nothing for ${bodyPatienceMs / 1000} s, or less than the service's least rate. Retry the request on a faster line.`,
    { status: 408, code: 'body_too_slow', retriable: true },
  )
