import { BoundedMap } from '../../infra/bounded-map.ts'
import { valueWithin } from '../../infra/timing.ts'
import { type FinishedCaption, maxHoldMs } from '../contract/caption.ts'
import type { CaptionPart, PartDelivery } from '../contract/reply.ts'

/** Reply that a request waits for. */
interface PendingReply {
  /** Sent with the job; the processor announces the finished caption to it. */
  replyTo: string
  /**
   * Resolves with the finished caption, or undefined after `ms`, but not while parts of it come, when `signal` aborts, or on
   * `release`.
   */
  wait(ms: number, signal: AbortSignal): Promise<FinishedCaption | undefined>
  /** A caption may have been delivered and lost; absent where that cannot happen. */
  readonly lost?: boolean
  /** Later replies are dropped. */
  close(): void
}

/** Delivers replies to waiting requests. */
export interface Mailbox {
  /** @param onPart takes the parts of a caption that grows; absent where the whole is waited for */
  open(id: string, onPart?: (part: CaptionPart) => void): PendingReply
  /** Delivers a finished caption to the request that waits for it. @returns false if none waits */
  deliver(id: string, caption: FinishedCaption): boolean | Promise<boolean>
  /** Shows a part of a caption to the request that waits for it, if its caller reads along. */
  show(id: string, part: CaptionPart): PartDelivery | Promise<PartDelivery>
}

/** Mailbox of an edge in one process. */
export interface LocalMailbox extends Mailbox {
  deliver(id: string, caption: FinishedCaption): boolean
  show(id: string, part: CaptionPart): PartDelivery
  /** Aborts when the caller of a request leaves; undefined for one of which nothing is known. */
  leaving(id: string): AbortSignal | undefined
  /** Ends every wait at once, without a caption. */
  release(): void
}

/** `reply-to` of a request in the processor's own process. */
const localAddress = (id: string) => `local:${id}`

/**
 * @param addressOf `reply-to` of a request; default: for a processor in this process
 * @example
 * const reply = mailbox.open(id)
 * // ... the job is sent with reply.replyTo; the processor calls mailbox.deliver(id, caption) ...
 * const caption = await reply.wait(25_000, signal)
 */
export function createMailbox(addressOf: (id: string) => string = localAddress): LocalMailbox {
  const waiting = new Map<string, Waiting>()
  const left = new BoundedMap<string, true>(mostLeft)
  return {
    open(id, onPart) {
      const reply = Promise.withResolvers<FinishedCaption | undefined>()
      const self: Waiting = { resolve: reply.resolve, onPart, parts: 0, leaves: new AbortController() }
      waiting.set(id, self)
      left.delete(id)
      return {
        replyTo: addressOf(id),
        async wait(ms, signal) {
          const caption = await replyWithin(ms, reply.promise, { parts: () => self.parts, signal })
          // After giving up nothing is delivered; a caption delivered until then counts.
          waiting.delete(id)
          reply.resolve(undefined)
          if (!caption && signal.aborted) {
            left.set(id, true)
            self.leaves.abort(new CallerLeftError())
          }
          return reply.promise
        },
        close: () => waiting.delete(id),
      }
    },
    deliver(id, caption) {
      const request = waiting.get(id)
      request?.resolve(caption)
      return request !== undefined
    },
    show(id, part) {
      const request = waiting.get(id)
      if (left.has(id)) return 'left'
      if (request === undefined) return 'unwanted'
      if (request.onPart && part.texts.length > 0) {
        request.parts++
        request.onPart(part)
      }
      return 'taken'
    },
    leaving: (id) =>
      left.has(id) ? AbortSignal.abort(new CallerLeftError()) : waiting.get(id)?.leaves.signal,
    release() {
      for (const { resolve } of waiting.values()) resolve(undefined)
      waiting.clear()
    },
  }
}

interface Waiting {
  resolve(caption: FinishedCaption | undefined): void
  onPart: ((part: CaptionPart) => void) | undefined
  /** Number of those that came. */
  parts: number
  leaves: AbortController
}

/** Callers that are remembered to have left, for a processor that takes up their jobs later. */
const mostLeft = 10_000

/** Nobody waits for the caption any more. */
export class CallerLeftError extends Error {
  override readonly name = 'CallerLeftError'
}

/**
 * Waits for a reply: at most `ms`, and from then on as long as within `maxHoldMs` another part of it comes.
 * @param parts number of those that came
 */
export async function replyWithin<T>(
  ms: number,
  reply: Promise<T>,
  { parts, signal }: { parts(): number; signal?: AbortSignal },
): Promise<T | undefined> {
  let settled = false
  const outcome = reply.finally(() => {
    settled = true
  })
  let waitMs = ms
  for (let seen = 0; ; seen = parts()) {
    const value = await valueWithin(waitMs, outcome, signal)
    if (settled || signal?.aborted || parts() === seen) return value
    waitMs = maxHoldMs
  }
}
