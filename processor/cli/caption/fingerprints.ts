import { hash } from 'node:crypto'

/** 32-bit words per fingerprint: with 96 bits, any two of 100 million texts meet with a chance of 1 in 10^12. */
const words = 3

/**
 * A set that remembers texts by a 96-bit hash in one flat table: 16 to 32 bytes for each, whatever their length,
 * and no limit at 16 million as a `Set` has.
 */
export class Fingerprints {
  #size = 0
  #table: Uint32Array

  /** `slots` is a power of two. */
  constructor(slots = 1024) {
    this.#table = new Uint32Array(slots * words)
  }

  get size(): number {
    return this.#size
  }

  /** Adds a text; false when it was there already. */
  add(text: string): boolean {
    if ((this.#size + 1) * words > this.#table.length * 0.75) this.#grow()
    const added = insert(this.#table, fingerprint(text))
    if (added) this.#size++
    return added
  }

  #grow(): void {
    const old = this.#table
    this.#table = new Uint32Array(old.length * 2)
    for (let at = 0; at < old.length; at += words)
      if (isTaken(old, at)) insert(this.#table, old.subarray(at, at + words))
  }
}

/** Never all zeros, which marks an empty slot. */
function fingerprint(text: string): Uint32Array {
  const digest = hash('sha256', text, 'buffer')
  const print = new Uint32Array(words)
  for (let i = 0; i < words; i++) print[i] = digest.readUInt32LE(i * 4)
  print[0]! |= 1
  return print
}

/** Linear probing; the table is never full. */
function insert(table: Uint32Array, print: Uint32Array): boolean {
  const slots = table.length / words
  let slot = print[1]! & (slots - 1)
  while (isTaken(table, slot * words)) {
    const at = slot * words
    if (print.every((word, i) => table[at + i] === word)) return false
    slot = (slot + 1) & (slots - 1)
  }
  table.set(print, slot * words)
  return true
}

const isTaken = (table: Uint32Array, at: number) => table[at] !== 0
