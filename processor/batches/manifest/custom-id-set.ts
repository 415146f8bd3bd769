import { hash } from 'node:crypto'

const initialSlots = 1024
/** Share of the slots that are taken before the table grows. */
const maxLoad = 0.7

/**
 * Which `custom_id`s were there already. Keeps 64 bits of each id's SHA-256, 8 bytes in an open-addressed table: ten
 * million ids take 134 MB (201 while it grows), and the odds that any two of them are taken for one are 3 in a
 * million.
 *
 * @example if (!seen.add(customId)) refuse(line)
 */
export class CustomIdSet {
  #low = new Uint32Array(initialSlots)
  #high = new Uint32Array(initialSlots)
  #size = 0

  get size(): number {
    return this.#size
  }

  /** False when the id was there already. */
  add(id: string): boolean {
    const digest = hash('sha256', id, 'binary')
    // 0 marks a free slot.
    const low = uint32(digest, 0) || 1
    const high = uint32(digest, 4)
    if (!insert(this.#low, this.#high, low, high)) return false
    if (++this.#size > this.#low.length * maxLoad) this.#grow()
    return true
  }

  #grow(): void {
    const low = new Uint32Array(this.#low.length * 2)
    const high = new Uint32Array(this.#low.length * 2)
    for (let slot = 0; slot < this.#low.length; slot++) {
      if (this.#low[slot] !== 0) insert(low, high, this.#low[slot]!, this.#high[slot]!)
    }
    this.#low = low
    this.#high = high
  }
}

/** Four bytes of a string of bytes. */
const uint32 = (bytes: string, at: number) =>
  (bytes.charCodeAt(at) |
    (bytes.charCodeAt(at + 1) << 8) |
    (bytes.charCodeAt(at + 2) << 16) |
    (bytes.charCodeAt(at + 3) << 24)) >>>
  0

/** Linear probing in tables whose length is a power of two. False when it is there already. */
function insert(lows: Uint32Array, highs: Uint32Array, low: number, high: number): boolean {
  const mask = lows.length - 1
  let slot = high & mask
  while (lows[slot] !== 0) {
    if (lows[slot] === low && highs[slot] === high) return false
    slot = (slot + 1) & mask
  }
  lows[slot] = low
  highs[slot] = high
  return true
}
