import type { KafkaMessage } from 'kafkajs'
import { CommitWindow } from './commit-window.ts'

/**
 * Result of adding fetched records:
 * - `taken`: they wait to be dispatched.
 * - `uncertain`: the first fetch after an interruption starts where we had fetched to. Fetch again; see the README.
 * - `foreign`: they are before finished records, so the topic was recreated, or the group was reset.
 */
export type Added = 'taken' | 'uncertain' | 'foreign'

/**
 * Progress of this process in one partition: records fetched, dispatched and finished. It outlives rebalances: what was
 * dispatched here is finished here, and is not dispatched again when the partition comes back.
 */
export class PartitionProgress {
  readonly partition: number
  /** True while the partition is assigned to this consumer. */
  assigned = true
  readonly #window: CommitWindow
  /** Fetched and not dispatched; the lowest offset is the last. */
  #fetched: KafkaMessage[] = []
  /** Offset of the next fetch; after an interruption it can be among records that were dispatched before. */
  #fetchedTo: bigint
  /** Last known position of the group. */
  #committed: bigint
  /** True when no other consumer can have had the partition since. */
  #continuous = true
  /** True after one `uncertain` fetch. */
  #sawUncertain = false

  /** @param position of the group: the first unfinished offset */
  constructor(partition: number, position: bigint) {
    this.partition = partition
    this.#window = new CommitWindow(position)
    this.#committed = position
    this.#fetchedTo = position
  }

  /** Records that can be dispatched. */
  get waiting(): number {
    return this.#fetched.length
  }

  /** Offset after everything fetched or dispatched; undefined after an interruption, until the group's position is known. */
  get next(): bigint | undefined {
    return this.#continuous ? this.#behindAll() : undefined
  }

  /** Position to commit; undefined when it is committed, or while the partition is not ours or others may be ahead. */
  get uncommitted(): bigint | undefined {
    const { position } = this.#window
    return this.assigned && this.#continuous && position > this.#committed ? position : undefined
  }

  /**
   * Marks that another consumer has the partition, or may have had it.
   * @param left offsets that were dispatched and are not handled here
   */
  interrupt(left: readonly bigint[] = []): void {
    const [lowest] = left.toSorted((a, b) => (a < b ? -1 : 1))
    if (lowest !== undefined) this.#window.rewind(lowest)
    this.#fetched = []
    this.#continuous = false
    this.#sawUncertain = false
  }

  /**
   * Adds fetched records, ascending. The first fetch after an interruption starts at the group's position; records of
   * it that were dispatched here before are left out.
   */
  add(messages: KafkaMessage[]): Added {
    const first = BigInt(messages[0]!.offset)
    if (first < (this.#continuous ? this.#fetchedTo : this.#committed)) return 'foreign'
    if (!this.#continuous && first >= this.#fetchedTo && !this.#sawUncertain) {
      this.#sawUncertain = true
      return 'uncertain'
    }
    if (!this.#continuous) {
      this.#continuous = true
      this.#committed = first
      this.#fetchedTo = first
    }
    const next = this.#behindAll()
    const added = messages.filter(({ offset }) => BigInt(offset) >= next)
    this.#fetched = [...added.reverse(), ...this.#fetched]
    this.#fetchedTo = BigInt(messages.at(-1)!.offset) + 1n
    return 'taken'
  }

  /** Next record to dispatch. */
  take(): KafkaMessage | undefined {
    const message = this.#fetched.pop()
    if (message) this.#window.begin(BigInt(message.offset))
    return message
  }

  finish(offset: bigint): void {
    this.#window.finish(offset)
  }

  /** Records a commit of the group. */
  committed(position: bigint): void {
    if (position > this.#committed) this.#committed = position
  }

  #behindAll(): bigint {
    const { next } = this.#window
    return next > this.#fetchedTo ? next : this.#fetchedTo
  }
}
