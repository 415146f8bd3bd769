import type { KafkaMessage } from 'kafkajs'
import { CommitWindow } from './commit-window.ts'

/**
 * What became of fetched records:
 * - `taken`: they wait to be handed out.
 * - `doubtful`: the first ones after an interruption, starting where we had fetched to before it. The group may have
 *   got there by others, or the fetch was on its way already during the rebalance, and taking it would skip what was
 *   fetched and not handed out. Fetch again: the same from the group's true position is taken.
 * - `foreign`: they lie before what is known to be done, so they must be others under the same offsets. The topic was
 *   made anew, or somebody has set the group back.
 */
export type Added = 'taken' | 'doubtful' | 'foreign'

/**
 * One partition as this process consumes it: records that were fetched, records that were handed out, and how far the
 * group may be told that they are done. It outlives rebalances: what was handed out here is finished here, whoever
 * the partition belongs to meanwhile, and is not handed out again when it comes back.
 */
export class PartitionProgress {
  readonly partition: number
  /** True while the partition is assigned to this consumer. */
  assigned = true
  readonly #window: CommitWindow
  /** Fetched and not handed out; the lowest offset is the last. */
  #fetched: KafkaMessage[] = []
  /** Offset of the next fetch; after an interruption it can be among records that were dispatched before. */
  #fetchedTo: bigint
  /** Last known position of the group. */
  #committed: bigint
  /** True when nobody else can have had the partition since. */
  #continuous = true
  /** True after one `doubtful` fetch. */
  #doubted = false

  /** @param position where the group stands: the first offset that is not done */
  constructor(partition: number, position: bigint) {
    this.partition = partition
    this.#window = new CommitWindow(position)
    this.#committed = position
    this.#fetchedTo = position
  }

  /** Records that can be handed out. */
  get waiting(): number {
    return this.#fetched.length
  }

  /**
   * Where to read on: the offset behind everything that was fetched or handed out. Undefined after an interruption,
   * until the group's position is known.
   */
  get next(): bigint | undefined {
    return this.#continuous ? this.#behindAll() : undefined
  }

  /**
   * The position to commit; undefined when the group has it already, when the partition is not ours, or as long as
   * others may have gone further than we know.
   */
  get uncommitted(): bigint | undefined {
    const { position } = this.#window
    return this.assigned && this.#continuous && position > this.#committed ? position : undefined
  }

  /** The partition is another consumer's now, or was for a while. */
  interrupt(): void {
    this.#fetched = []
    this.#continuous = false
    this.#doubted = false
  }

  /**
   * Takes what was fetched, in ascending order. The first fetch after an interruption starts where the group stands;
   * what of it was handed out here before is left out.
   */
  add(messages: KafkaMessage[]): Added {
    const first = BigInt(messages[0]!.offset)
    if (first < (this.#continuous ? this.#fetchedTo : this.#committed)) return 'foreign'
    if (!this.#continuous && first >= this.#fetchedTo && !this.#doubted) {
      this.#doubted = true
      return 'doubtful'
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

  /** The next record to hand out. */
  take(): KafkaMessage | undefined {
    const message = this.#fetched.pop()
    if (message) this.#window.begin(BigInt(message.offset))
    return message
  }

  finish(offset: bigint): void {
    this.#window.finish(offset)
  }

  /** The group was told. */
  committed(position: bigint): void {
    if (position > this.#committed) this.#committed = position
  }

  #behindAll(): bigint {
    const { next } = this.#window
    return next > this.#fetchedTo ? next : this.#fetchedTo
  }
}
