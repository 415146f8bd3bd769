/**
 * Offsets of one partition in flight. It may be committed up to the lowest unfinished one. Offsets may have gaps, as
 * Kafka's have where transactions ended.
 *
 * @example
 * const window = new CommitWindow(7n)
 * window.begin(7n); window.begin(8n)
 * window.finish(8n); window.position // 7n: 7 is not finished
 * window.finish(7n); window.position // 9n
 */
export class CommitWindow {
  /** In ascending order, because offsets begin in ascending order and a set keeps the order of insertion. */
  readonly #unfinished = new Set<bigint>()
  /** Offset behind everything that began. */
  next: bigint

  /** @param position the first offset that is not committed yet */
  constructor(position: bigint) {
    this.next = position
  }

  /** Offset to commit, in Kafka's sense: the first one to read after a restart. */
  get position(): bigint {
    const lowest = this.#unfinished.values().next()
    return lowest.done ? this.next : lowest.value
  }

  /** @throws RangeError when the offset is not above all earlier ones */
  begin(offset: bigint): void {
    if (offset < this.next) throw new RangeError(`offset ${offset} is not above ${this.next - 1n}`)
    this.#unfinished.add(offset)
    this.next = offset + 1n
  }

  /** Goes back to an offset that is not to be finished here: it and all above can begin again. */
  rewind(offset: bigint): void {
    for (const unfinished of this.#unfinished) if (unfinished >= offset) this.#unfinished.delete(unfinished)
    this.next = offset
  }

  /** Finishing an offset twice does nothing: at-least-once delivery can bring a record again. */
  finish(offset: bigint): void {
    this.#unfinished.delete(offset)
  }
}
