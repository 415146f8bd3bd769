import { DurableObject } from 'cloudflare:workers'
import type { FinishedCaption } from '../contract/caption.ts'
import type { CaptionPart, PartDelivery } from '../contract/reply.ts'
import { replyWithin } from '../submit/mailbox.ts'
import type { MailboxCalls } from './mailbox.ts'

interface ReplySlot extends PromiseWithResolvers<FinishedCaption | undefined> {
  waiting: number
  onPart: ((part: CaptionPart) => unknown) | undefined
  /** Number of those that came. */
  parts: number
}

/** A reply that arrives before its request waits is kept this long, ms. */
const keepMs = 5_000
/** Time for which a caller is remembered to have left, ms: longer than between two parts of a caption. */
const keepLeftMs = 120_000

/** Holds requests until their captions are ready. Nothing is stored: lost captions are in the object store as well. */
export class MailboxObject extends DurableObject<unknown> implements MailboxCalls {
  readonly #replies = new Map<string, ReplySlot>()
  readonly #left = new Set<string>()

  async wait(
    id: string,
    ms: number,
    onPart?: (part: CaptionPart) => unknown,
  ): Promise<FinishedCaption | undefined> {
    this.#left.delete(id)
    const reply = this.#reply(id)
    reply.waiting++
    reply.onPart = onPart
    try {
      return await replyWithin(ms, reply.promise, { parts: () => reply.parts })
    } finally {
      reply.waiting--
      this.#forget(id, reply)
    }
  }

  async deliver(id: string, caption: FinishedCaption): Promise<boolean> {
    const reply = this.#reply(id)
    reply.resolve(caption)
    if (reply.waiting > 0) return true
    setTimeout(() => this.#forget(id, reply), keepMs)
    return false
  }

  async show(id: string, part: CaptionPart): Promise<PartDelivery> {
    if (this.#left.has(id)) return 'left'
    const reply = this.#replies.get(id)
    if (!reply || reply.waiting === 0) return 'unwanted'
    if (reply.onPart && part.texts.length > 0) {
      reply.parts++
      await reply.onPart(part)
    }
    return 'taken'
  }

  async close(id: string, left = false): Promise<void> {
    if (left) {
      this.#left.add(id)
      setTimeout(() => this.#left.delete(id), keepLeftMs)
    }
    this.#replies.get(id)?.resolve(undefined)
    this.#replies.delete(id)
  }

  #reply(id: string): ReplySlot {
    const reply = this.#replies.get(id) ?? {
      ...Promise.withResolvers<FinishedCaption | undefined>(),
      waiting: 0,
      onPart: undefined,
      parts: 0,
    }
    this.#replies.set(id, reply)
    return reply
  }

  #forget(id: string, reply: ReplySlot): void {
    if (reply.waiting === 0 && this.#replies.get(id) === reply) this.#replies.delete(id)
  }
}
