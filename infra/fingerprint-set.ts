import { hash } from 'node:crypto'

const initialSlots = 1024
/** Share of the slots that are taken before the table grows. */
const maxLoad = 0.7

/**
 * A set that remembers texts by the first 32-bit words of their SHA-256, in one flat open-addressed table: no limit at
 * 16 million as a `Set` has, whatever their length. With two words ten million texts take 134 MB (201 while it grows)
 * and the odds of any collision are 3 in a million; with three words it is 201 MB and less than 1 in 10^15.
 *
 * @example if (!seen.add(customId)) refuse(line)
 */
export class FingerprintSet {
  readonly #words: number
  #table: Uint32Array
  /** Buffer for one fingerprint. */
  readonly #print: Uint32Array
  size = 0

  constructor(words: 2 | 3 = 2) {
    this.#words = words
    this.#table = new Uint32Array(initialSlots * words)
    this.#print = new Uint32Array(words)
  }

  /** False when the text was there already. */
  add(text: string): boolean {
    const digest = hash('sha256', text, 'binary')
    const print = this.#print
    for (let word = 0; word < this.#words; word++) print[word] = uint32(digest, 4 * word)
    // 0 marks a free slot.
    print[0] ||= 1
    if (!insert(this.#table, print)) return false
    if (++this.size * this.#words > this.#table.length * maxLoad) this.#grow()
    return true
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Uint32Array(old.length * 2)
    for (let at = 0; at < old.length; at += this.#words)
      if (old[at] !== 0) insert(this.#table, old.subarray(at, at + this.#words))
  }
}

/** Four bytes of a string of bytes. */
const uint32 = (bytes: string, at: number) =>
  (bytes.charCodeAt(at) |
    (bytes.charCodeAt(at + 1) << 8) |
    (bytes.charCodeAt(at + 2) << 16) |
    (bytes.charCodeAt(at + 3) << 24)) >>>
  0

/** Linear probing in a table of a power of two slots. False when it is there already. */
function insert(table: Uint32Array, print: Uint32Array): boolean {
  const words = print.length
  const mask = table.length / words - 1
  for (let slot = print[1]! & mask; ; slot = (slot + 1) & mask) {
    const at = slot * words
    if (table[at] === 0) {
      table.set(print, at)
      return true
    }
    let word = 0
    while (word < words && table[at + word] === print[word]) word++
    if (word === words) return false
  }
}
