import { partitionOf } from '../../infra/stream/partition.ts'
import { type FinishedCaption, maxHoldMs } from '../contract/caption.ts'
import type { CaptionPart, PartDelivery } from '../contract/reply.ts'
import type { Log } from '../deps.ts'
import { type Mailbox, replyWithin } from '../submit/mailbox.ts'
import type { Background, ObjectNamespace } from './objects.ts'

/** Calls of a mailbox object; `id` is a request's. */
export interface MailboxCalls {
  /**
   * Resolves with the caption, or undefined on `close` or after `ms`, but not while parts of it come.
   * @param onPart crosses the network for each part
   */
  wait(id: string, ms: number, onPart?: (part: CaptionPart) => unknown): Promise<FinishedCaption | undefined>
  /** @returns whether a request waits for it */
  deliver(id: string, caption: FinishedCaption): Promise<boolean>
  show(id: string, part: CaptionPart): Promise<PartDelivery>
  /** @param left the caller has gone, and wants no caption */
  close(id: string, left?: boolean): Promise<void>
}

export interface ObjectMailboxOptions {
  objects: ObjectNamespace<MailboxCalls>
  /** Number of objects. One serves some hundred requests per second. */
  mailboxes: number
  /** `reply-to` of a request. */
  addressOf(id: string): string
  background: Background
  log: Pick<Log, 'warn'>
}

/** Added to the hold time for what precedes the wait, ms. */
const marginMs = 5_000

/**
 * Mailbox in a pool of Durable Objects: a processor's reply can reach the edge anywhere in the world and finds the object
 * that the caller's request waits in. Not one object per request: creating one takes longer than everything else, and
 * each is billed while a request waits in it.
 */
export function createObjectMailbox(options: ObjectMailboxOptions): Mailbox {
  const { objects, mailboxes, addressOf, background, log } = options
  const objectOf = (id: string) => objects.getByName(`mailbox-${partitionOf(id, mailboxes)}`)
  return {
    open(id, onPart) {
      const object = objectOf(id)
      let parts = 0
      const take = (part: CaptionPart) => {
        parts++
        onPart?.(part)
      }
      let ended = false
      let lost = false
      // Called at once, in parallel with the send of the job: waiting afterwards would cost a round trip.
      const reply = object
        .wait(id, maxHoldMs + marginMs, onPart && take)
        .catch((err: unknown) => {
          lost = true
          log.warn({ err, id }, 'mailbox lost, its caller gets a 202')
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
          const caption = await replyWithin(ms, reply, { parts: () => parts, signal })
          if (caption || ended) return caption
          // After giving up nothing is delivered; a caption delivered until then counts.
          const closed = object.close(id, signal.aborted).catch(() => undefined)
          // Of a caller who has left the request may end here.
          if (signal.aborted) background(closed)
          await closed
          return reply
        },
        close() {
          if (!ended) background(object.close(id).catch(() => undefined))
        },
      }
    },
    deliver: (id, caption) => objectOf(id).deliver(id, caption),
    show: (id, part) => objectOf(id).show(id, part),
  }
}
