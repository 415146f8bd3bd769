import { partitionOf } from '../../infra/stream/partition.ts'
import { valueWithin } from '../../infra/timing.ts'
import { type FinishedCaption, maxHoldMs } from '../contract/caption.ts'
import type { Log } from '../deps.ts'
import type { Mailbox } from '../submit/mailbox.ts'
import type { Background, ObjectNamespace } from './objects.ts'

/** What a mailbox object can be asked; `id` is a request's. */
export interface MailboxCalls {
  /** The caption, or undefined after `ms` or when it is closed. */
  wait(id: string, ms: number): Promise<FinishedCaption | undefined>
  /** Whether somebody waits for it. */
  deliver(id: string, caption: FinishedCaption): Promise<boolean>
  close(id: string): Promise<void>
}

export interface ObjectMailboxOptions {
  objects: ObjectNamespace<MailboxCalls>
  /** How many there are. One serves some hundred requests in a second. */
  mailboxes: number
  /** The `reply-to` address of a request. */
  addressOf(id: string): string
  background: Background
  log: Pick<Log, 'warn'>
}

/** A letter is waited for this much longer than a caller is, for whatever comes before the wait, ms. */
const marginMs = 5_000

/**
 * A mailbox in a pool of Durable Objects: the reply of a processor can reach the edge anywhere in the world, and finds
 * the one place where the caller's request asks for it. Not one object for each request, because making one takes
 * longer than everything else, and each is charged for as long as it is waited in.
 */
export function createObjectMailbox(options: ObjectMailboxOptions): Mailbox {
  const { objects, mailboxes, addressOf, background, log } = options
  const objectOf = (id: string) => objects.getByName(`mailbox-${partitionOf(id, mailboxes)}`)
  return {
    open(id) {
      const object = objectOf(id)
      let ended = false
      let lost = false
      // Asked at once, beside the send of the job: waiting for it afterwards would cost a round trip.
      const letter = object
        .wait(id, maxHoldMs + marginMs)
        .catch((err: unknown) => {
          lost = true
          log.warn({ err, id }, 'a mailbox was lost; its caller gets an address')
        })
        .then((caption) => {
          ended = true
          return caption ?? undefined
        })
      return {
        replyTo: addressOf(id),
        get lost() {
          return lost
        },
        async wait(ms, signal) {
          const caption = await valueWithin(ms, letter, signal)
          if (caption || ended) return caption
          // Who gives up is handed nothing any more, and what was handed over meanwhile counts.
          await object.close(id).catch(() => undefined)
          return letter
        },
        close() {
          if (!ended) background(object.close(id).catch(() => undefined))
        },
      }
    },
    deliver: (id, caption) => objectOf(id).deliver(id, caption),
  }
}
