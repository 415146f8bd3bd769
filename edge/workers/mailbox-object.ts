import { DurableObject } from 'cloudflare:workers'
import { valueWithin } from '../../infra/timing.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import type { MailboxCalls } from './mailbox.ts'

interface ReplySlot extends PromiseWithResolvers<FinishedCaption | undefined> {
  waiting: number
}

/** A reply that arrives before its request waits is kept this long, ms. */
const keepMs = 5_000

/** Holds requests until their captions are ready. Nothing is stored: lost captions are in the object store as well. */
export class MailboxObject extends DurableObject<unknown> implements MailboxCalls {
  readonly #replies = new Map<string, ReplySlot>()

  async wait(id: string, ms: number): Promise<FinishedCaption | undefined> {
    const reply = this.#reply(id)
    reply.waiting++
    try {
      return await valueWithin(ms, reply.promise)
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

  async close(id: string): Promise<void> {
    this.#replies.get(id)?.resolve(undefined)
    this.#replies.delete(id)
  }

  #reply(id: string): ReplySlot {
    const reply = this.#replies.get(id) ?? {
      ...Promise.withResolvers<FinishedCaption | undefined>(),
      waiting: 0,
    }
    this.#replies.set(id, reply)
    return reply
  }

  #forget(id: string, reply: ReplySlot): void {
    if (reply.waiting === 0 && this.#replies.get(id) === reply) this.#replies.delete(id)
  }
}
