/** Memory for the pixels of a batch, used again by the next. */
export class JoinedPixels {
  #joined = new Uint8Array(0)

  /** Pictures one behind the other; a lone one is not copied. */
  join(pictures: readonly Uint8Array[]): Uint8Array {
    if (pictures.length === 1) return pictures[0]!
    const bytes = pictures.reduce((sum, { length }) => sum + length, 0)
    if (this.#joined.length < bytes) this.#joined = new Uint8Array(bytes)
    let end = 0
    for (const picture of pictures) {
      this.#joined.set(picture, end)
      end += picture.length
    }
    return this.#joined.subarray(0, bytes)
  }
}
