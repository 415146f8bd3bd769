import { valueWithin } from '../../infra/timing.ts'
import type { FinishedCaption } from '../contract/caption.ts'

/** Reply that a request waits for. */
interface PendingReply {
  /** Sent with the job; the processor announces the finished caption to it. */
  replyTo: string
  /** Resolves with the finished caption, or undefined after `ms`, when `signal` aborts, or on `release`. */
  wait(ms: number, signal: AbortSignal): Promise<FinishedCaption | undefined>
  /** A caption may have been delivered and lost; absent where that cannot happen. */
  readonly lost?: boolean
  /** Later replies are dropped. */
  close(): void
}

/** Delivers replies to waiting requests. */
export interface Mailbox {
  open(id: string): PendingReply
  /** Delivers a finished caption to the request that waits for it. @returns false if none waits */
  deliver(id: string, caption: FinishedCaption): boolean | Promise<boolean>
}

/** Mailbox of an edge in one process. */
export interface LocalMailbox extends Mailbox {
  deliver(id: string, caption: FinishedCaption): boolean
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
  const waiting = new Map<string, (caption: FinishedCaption | undefined) => void>()
  return {
    open(id) {
      const reply = Promise.withResolvers<FinishedCaption | undefined>()
      waiting.set(id, reply.resolve)
      return {
        replyTo: addressOf(id),
        async wait(ms, signal) {
          await valueWithin(ms, reply.promise, signal)
          // After giving up nothing is delivered; a caption delivered until then counts.
          waiting.delete(id)
          reply.resolve(undefined)
          return reply.promise
        },
        close: () => waiting.delete(id),
      }
    },
    deliver(id, caption) {
      const resolve = waiting.get(id)
      resolve?.(caption)
      return resolve !== undefined
    },
    release() {
      for (const resolve of waiting.values()) resolve(undefined)
      waiting.clear()
    },
  }
}
