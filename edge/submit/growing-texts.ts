import type { TextPart } from '../contract/reply.ts'

/** Texts of captions that grow by parts, which may come twice, get lost, or come again from the start. */
export class GrowingTexts {
  readonly #texts: string[] = []
  readonly #torn = new Set<number>()

  /** Text of a caption so far. */
  of(index: number): string {
    return this.#texts[index] ?? ''
  }

  /** Adds a part. @returns what is new of it; nothing behind a lost part, and of a caption that is not the one before */
  add({ index, from, text }: TextPart): string {
    const known = this.of(index)
    if (this.#torn.has(index) || from > known.length) return ''
    const again = known.slice(from)
    if (!text.startsWith(again)) {
      if (!again.startsWith(text)) this.#torn.add(index)
      return ''
    }
    this.#texts[index] = known + text.slice(again.length)
    return text.slice(again.length)
  }

  /** What is left of a caption that is known now; nothing of one that ends before, undefined for another caption. */
  rest(index: number, caption: string): string | undefined {
    const known = this.of(index)
    if (known.startsWith(caption)) return ''
    return caption.startsWith(known) ? caption.slice(known.length) : undefined
  }
}
