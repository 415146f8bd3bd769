import { valueWithin } from '../../infra/timing.ts'
import type { FinishedCaption } from '../contract/caption.ts'

/** Where one waiting request gets its finished caption. */
interface Letterbox {
  /** Travels with the job; the processor announces the finished caption to it. */
  replyTo: string
  /** The finished caption, or undefined after `ms`, when `signal` aborts, or when nobody may wait any longer. */
  wait(ms: number, signal: AbortSignal): Promise<FinishedCaption | undefined>
  /** A caption may have been handed over and lost on its way. */
  readonly lost?: boolean
  /** What is announced afterwards is dropped. */
  close(): void
}

/** Opens a letterbox per waiting request. */
export interface Mailbox {
  open(id: string): Letterbox
  /** Hands a finished caption to whoever waits for it: their request is answered with it. False when nobody does. */
  deliver(id: string, caption: FinishedCaption): boolean | Promise<boolean>
}

/** The mailbox of an edge in one process: whoever waits, waits here. */
export interface LocalMailbox extends Mailbox {
  deliver(id: string, caption: FinishedCaption): boolean
  /** Ends every wait at once, without a caption. */
  release(): void
}

/** The `reply-to` address of a letterbox in the processor's own process. */
const localAddress = (id: string) => `local:${id}`

/**
 * @param addressOf the `reply-to` address of a request; default: one for a processor in this process
 * @example
 * const letterbox = mailbox.open(id)
 * // ... the job goes out with letterbox.replyTo; the finished caption comes in by mailbox.deliver(id, caption) ...
 * const caption = await letterbox.wait(25_000, signal)
 */
export function createMailbox(addressOf: (id: string) => string = localAddress): LocalMailbox {
  const waiting = new Map<string, (caption: FinishedCaption | undefined) => void>()
  return {
    open(id) {
      const letter = Promise.withResolvers<FinishedCaption | undefined>()
      waiting.set(id, letter.resolve)
      return {
        replyTo: addressOf(id),
        async wait(ms, signal) {
          await valueWithin(ms, letter.promise, signal)
          // Who gives up is handed nothing any more, and what was handed over meanwhile counts.
          waiting.delete(id)
          letter.resolve(undefined)
          return letter.promise
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
