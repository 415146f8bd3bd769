/** Text of ids that grow in number. */
export interface GrownText {
  text: string
  /** Characters of it that stay as they are, whatever follows. */
  stable: number
}

/** Ids that are decoded again each time, at least and at most; as many before them say how they begin. */
const fewestDecoded = 8
const mostDecoded = 40
/** Decoding that gives fewer characters says nothing. */
const telling = 2

/** Decodes ids that grow in number; each call takes as long as the new ones. Other ids than before begin anew. */
export class GrowingDecoder {
  readonly #decode: (ids: number[]) => string
  #ids: readonly number[] = []
  /** Text of ids that are not decoded again; those behind are, from `begin` on, less as many characters as are settled. */
  #settled = { text: '', begin: 0, characters: 0 }

  constructor(decode: (ids: number[]) => string) {
    this.#decode = decode
  }

  /** @param ids those of the last call and what came behind */
  update(ids: readonly number[]): GrownText {
    if (!this.#ids.every((id, at) => id === ids[at])) this.#settled = { text: '', begin: 0, characters: 0 }
    this.#ids = ids
    const { text, begin, characters } = this.#settled
    const grown = text + this.#decode(ids.slice(begin)).slice(characters)
    if (ids.length - begin > mostDecoded) this.#settle(grown)
    return { text: grown, stable: this.#settled.text.length }
  }

  /** Goes on to ids behind, where decoding from there gives the same. */
  #settle(text: string): void {
    const next = this.#ids.length - fewestDecoded
    const begin = next - fewestDecoded
    const before = this.#decode(this.#ids.slice(begin, next))
    const behind = this.#decode(this.#ids.slice(begin)).slice(before.length)
    const isTold = before.trim().length >= telling && behind.trim().length >= telling
    if (isTold && text.endsWith(before + behind))
      this.#settled = { text: text.slice(0, text.length - behind.length), begin, characters: before.length }
  }
}
