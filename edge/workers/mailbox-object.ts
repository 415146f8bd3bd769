import { DurableObject } from 'cloudflare:workers'
import { valueWithin } from '../../infra/timing.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import type { MailboxCalls } from './mailbox.ts'

interface Letter extends PromiseWithResolvers<FinishedCaption | undefined> {
  waiting: number
}

/** A letter that comes first is kept this long for the one who is about to wait for it, ms. */
const keepMs = 5_000

/** Where requests wait for their captions. Nothing is stored: what gets lost here lies in the object store as well. */
export class MailboxObject extends DurableObject<unknown> implements MailboxCalls {
  readonly #letters = new Map<string, Letter>()

  async wait(id: string, ms: number): Promise<FinishedCaption | undefined> {
    const letter = this.#letter(id)
    letter.waiting++
    try {
      return await valueWithin(ms, letter.promise)
    } finally {
      letter.waiting--
      this.#forget(id, letter)
    }
  }

  async deliver(id: string, caption: FinishedCaption): Promise<boolean> {
    const letter = this.#letter(id)
    letter.resolve(caption)
    if (letter.waiting > 0) return true
    setTimeout(() => this.#forget(id, letter), keepMs)
    return false
  }

  async close(id: string): Promise<void> {
    this.#letters.get(id)?.resolve(undefined)
    this.#letters.delete(id)
  }

  #letter(id: string): Letter {
    const letter = this.#letters.get(id) ?? {
      ...Promise.withResolvers<FinishedCaption | undefined>(),
      waiting: 0,
    }
    this.#letters.set(id, letter)
    return letter
  }

  #forget(id: string, letter: Letter): void {
    if (letter.waiting === 0 && this.#letters.get(id) === letter) this.#letters.delete(id)
  }
}
