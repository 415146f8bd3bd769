import type { FinishedCaption } from './contract/caption.ts'

/** Where one waiting request gets its finished caption. */
export interface Letterbox {
  /** Travels with the job; the processor announces the finished caption to it. */
  replyTo: string
  /** The finished caption, or undefined after `ms`, when `signal` aborts, or when nobody may wait any longer. */
  wait(ms: number, signal: AbortSignal): Promise<FinishedCaption | undefined>
  /** What is announced afterwards is dropped. */
  close(): void
}

/** Opens a letterbox per waiting request. */
export interface Mailbox {
  open(id: string): Letterbox
}

/** The mailbox of an edge that runs in one process with its processor. */
export interface LocalMailbox extends Mailbox {
  /** Hands a finished caption to whoever waits for it; false when nobody does. */
  deliver(replyTo: string, caption: FinishedCaption): boolean
  /** Ends every wait at once, without a caption. */
  release(): void
}

/**
 * @example
 * const letterbox = mailbox.open(id)
 * // ... the job goes out with letterbox.replyTo; the processor calls mailbox.deliver(replyTo, caption) ...
 * const caption = await letterbox.wait(25_000, signal)
 */
export function createMailbox(): LocalMailbox {
  const waiting = new Map<string, (caption: FinishedCaption | undefined) => void>()
  return {
    open(id) {
      const replyTo = `local:${id}`
      const letter = Promise.withResolvers<FinishedCaption | undefined>()
      waiting.set(replyTo, letter.resolve)
      return {
        replyTo,
        wait: (ms, signal) => withLimit(letter.promise, ms, signal),
        close: () => waiting.delete(replyTo),
      }
    },
    deliver(replyTo, caption) {
      const resolve = waiting.get(replyTo)
      resolve?.(caption)
      return resolve !== undefined
    },
    release() {
      for (const resolve of waiting.values()) resolve(undefined)
    },
  }
}

/** The promise's value, or undefined when `ms` pass or `signal` aborts before. */
function withLimit<T>(promise: Promise<T>, ms: number, signal: AbortSignal): Promise<T | undefined> {
  return new Promise((resolve) => {
    const finish = (value?: T) => {
      clearTimeout(timer)
      signal.removeEventListener('abort', giveUp)
      resolve(value)
    }
    const giveUp = () => finish()
    const timer = setTimeout(giveUp, ms)
    signal.addEventListener('abort', giveUp)
    promise.then(finish)
    if (signal.aborted) giveUp()
  })
}
