import { type ChatCompletion, type ChunkHead, chunksOf } from '../../contract/chat.ts'
import { jsonLine } from '../../contract/lines.ts'
import type { CaptionPart } from '../../contract/reply.ts'
import { GrowingTexts } from '../../submit/growing-texts.ts'

/** Streamed chat completion: chunks as captions grow, and what is left of them once they are known. */
export class ChatStream {
  readonly #head: Pick<ChunkHead, 'model' | 'includeUsage'>
  readonly #write: (event: string) => void
  readonly #texts = new GrowingTexts()
  readonly #begun = new Set<number>()

  /** @param write takes the data of each event */
  constructor(head: Pick<ChunkHead, 'model' | 'includeUsage'>, write: (event: string) => void) {
    this.#head = head
    this.#write = write
  }

  get hasBegun(): boolean {
    return this.#begun.size > 0
  }

  /** Writes what is new. */
  add({ id, created, texts }: CaptionPart): void {
    for (const part of texts) {
      const text = this.#texts.add(part)
      if (text !== '') this.#add({ id, created }, part.index, text)
    }
  }

  /** Writes the rest. @returns false when another caption has been begun */
  end(completion: ChatCompletion): boolean {
    const rests = completion.choices.map(({ index, message }) => this.#texts.rest(index, message.content))
    if (rests.includes(undefined)) return false
    for (const [at, { index }] of completion.choices.entries())
      if (rests[at] !== '' || !this.#begun.has(index)) this.#add(completion, index, rests[at]!)
    for (const chunk of chunksOf({ ...completion, ...this.#head }).ends(completion))
      this.#write(jsonLine(chunk))
    this.#write('[DONE]')
    return true
  }

  #add(head: Pick<ChunkHead, 'id' | 'created'>, index: number, text: string): void {
    const chunks = chunksOf({ ...head, ...this.#head })
    if (!this.#begun.has(index)) this.#write(jsonLine(chunks.begin(index)))
    this.#begun.add(index)
    this.#write(jsonLine(chunks.text(index, text)))
  }
}
