const initialBytes = 32

/** Numbers of shards, a bit each. */
export class ShardSet {
  #bits = new Uint8Array(initialBytes)
  /** Every number below this one is in the set. */
  #firstMissing = 0
  #size = 0

  /** From what `toString` gave. */
  static parse(text: string): ShardSet {
    const set = new ShardSet()
    const bytes = Buffer.from(text, 'base64')
    for (let shard = 0; shard < bytes.length * 8; shard++) {
      if (bytes[shard >> 3]! & (1 << (shard & 7))) set.add(shard)
    }
    return set
  }

  /** How many numbers are in the set. */
  get size(): number {
    return this.#size
  }

  /** The lowest number that is not in the set. */
  get firstMissing(): number {
    return this.#firstMissing
  }

  /** Behind the highest number in the set. */
  get end(): number {
    let end = this.#bits.length * 8
    while (end > this.#firstMissing && !this.has(end - 1)) end--
    return end
  }

  has(shard: number): boolean {
    return ((this.#bits[shard >> 3] ?? 0) & (1 << (shard & 7))) !== 0
  }

  /** False when it is there already. */
  add(shard: number): boolean {
    if (this.has(shard)) return false
    if (shard >> 3 >= this.#bits.length) this.#grow(shard)
    this.#bits[shard >> 3]! |= 1 << (shard & 7)
    this.#size++
    while (this.has(this.#firstMissing)) this.#firstMissing++
    return true
  }

  /** In base64. */
  toString(): string {
    return Buffer.from(this.#bits.subarray(0, Math.ceil(this.end / 8))).toString('base64')
  }

  #grow(shard: number): void {
    const bits = new Uint8Array(Math.max(this.#bits.length * 2, (shard >> 3) + 1))
    bits.set(this.#bits)
    this.#bits = bits
  }
}
