import { createHash, hash } from 'node:crypto'
import type { Answer } from '../../pipeline/ask.ts'

/** Answers that are remembered: those of the last entries, or those that came again. */
const mostAnswers = 16_384

/** Captions of a run, so that what is asked twice is captioned once. */
export class RecentAnswers {
  readonly #answers = new Map<string, Promise<Answer>>()

  /** The answer to what was asked with this key before, or else that of `ask`. A failure is not remembered. */
  of(key: string, ask: () => Promise<Answer>): Promise<Answer> {
    const print = hash('sha256', key, 'base64')
    const known = this.#answers.get(print)
    this.#answers.delete(print)
    const answer = known ?? ask()
    this.#answers.set(print, answer)
    if (!known) answer.catch(() => this.#answers.delete(print))
    if (this.#answers.size > mostAnswers) this.#answers.delete(this.#answers.keys().next().value!)
    return answer
  }
}

/** What makes two requests for images of the same bytes one. */
export function contentKey(images: readonly Uint8Array[], asked: object): string {
  const content = createHash('sha256')
  for (const image of images) content.update(`${image.length}:`).update(image)
  return `${content.digest('base64')}${JSON.stringify(asked)}`
}
