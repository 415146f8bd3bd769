import { backoffMs } from '../retry.ts'
import { sleep } from '../timing.ts'
import { CommitWindow } from './commit-window.ts'
import { GroupMember } from './group-member.ts'
import type { ConsumedRecord, ConsumeOptions, Consumer } from './stream.ts'

/** Log that a group reads records from and commits positions to. */
export interface RecordSource {
  /** Records of the partition from offset `from` on, ascending, at most `limit`. */
  read(partition: number, from: bigint, limit: number): Promise<ConsumedRecord[]>
  /** Partition to position: the first offset that is not finished. */
  commit(positions: ReadonlyMap<number, bigint>): Promise<void>
}

/** Partition as the group finds it: its position, and the offset of the next new record. */
export interface PartitionRange {
  partition: number
  position: bigint
  end: bigint
}

interface PartitionCursor {
  partition: number
  /** The next offset to fetch. */
  next: bigint
  end: bigint
  window: CommitWindow
  committed: bigint
}

export interface ConsumerGroupOptions {
  /** Positions are committed at most this often, ms; default: whenever they have moved. */
  commitEveryMs?: number
}

/** Records per fetch; a fetch takes a fraction of a millisecond, so little is gained by more. */
const fetchLimit = 64

/**
 * Consumers of one topic and group within this process. Every record goes to one member with room; positions are
 * committed in the background up to the lowest unfinished record.
 */
export class ConsumerGroup {
  readonly #source: RecordSource
  readonly #partitions: PartitionCursor[]
  readonly #members = new Set<GroupMember>()
  /** Records without a member: fetched, or released by one that left. */
  #ready: ConsumedRecord[] = []
  /** The partition that is being read. */
  #fetching: PartitionCursor | undefined
  #fetched: Promise<void> | undefined
  #fetchFailures = 0
  #committing: Promise<void> | undefined
  #rotation = 0
  readonly #closing = new AbortController()
  readonly #commitEveryMs: number
  /** Ends the pause before the next commit. */
  #hurry: (() => void) | undefined

  constructor(
    source: RecordSource,
    partitions: PartitionRange[],
    { commitEveryMs = 0 }: ConsumerGroupOptions = {},
  ) {
    this.#source = source
    this.#commitEveryMs = commitEveryMs
    this.#partitions = partitions.map(({ partition, position, end }) => ({
      partition,
      next: position,
      end,
      window: new CommitWindow(position),
      committed: position,
    }))
  }

  get size(): number {
    return this.#members.size
  }

  join(options: ConsumeOptions): Consumer {
    const member = new GroupMember(options, {
      finished: (record) => this.#finish(record),
      hasRoom: () => this.#pump(),
      release: (records) => this.#release(records),
      left: () => this.#leave(member),
    })
    this.#members.add(member)
    this.#pump()
    return member
  }

  /**
   * Announces new records of a partition, ascending and without a gap. They are taken as they are where they come next and
   * there is room for them, else read from the log when their turn comes.
   */
  extend(partition: number, records: readonly ConsumedRecord[]): void {
    const progress = this.#partitions[partition]!
    const end = records.at(-1)!.offset + 1n
    if (end <= progress.end) return
    const isNext = records[0]!.offset === progress.next
    progress.end = end
    if (isNext && this.#fetching !== progress && this.#ready.length + records.length <= this.#room())
      this.#take(progress, records)
    this.#pump()
  }

  /** Closes every member, each with its default time to drain. */
  async close(): Promise<void> {
    await Promise.all([...this.#members].map((member) => member.close()))
    this.#closing.abort()
    await this.#fetched
  }

  #pump(): void {
    this.#dispatch()
    if (this.#closing.signal.aborted || this.#fetching || this.#room() === 0) return
    const progress = this.#nextBehind()
    if (!progress) return
    this.#fetching = progress
    this.#fetched = this.#fetch(progress).finally(() => {
      this.#fetching = undefined
      this.#pump()
    })
  }

  #take(progress: PartitionCursor, records: readonly ConsumedRecord[]): void {
    for (const { offset } of records) progress.window.begin(offset)
    progress.next = records.at(-1)!.offset + 1n
    this.#ready.push(...records)
  }

  #dispatch(): void {
    while (this.#ready.length > 0) {
      const member = this.#roomiest()
      if (!member) return
      member.take(this.#ready.shift()!)
    }
  }

  async #fetch(progress: PartitionCursor): Promise<void> {
    try {
      const limit = Math.min(this.#room(), fetchLimit)
      const records = await this.#source.read(progress.partition, progress.next, limit)
      if (records.length > 0) this.#take(progress, records)
      else progress.next = progress.end
      this.#fetchFailures = 0
    } catch (error) {
      this.#report(error)
      await sleep(backoffMs(++this.#fetchFailures), this.#closing.signal)
    }
  }

  /** Round-robin, so that a partition with a large backlog does not block the others. */
  #nextBehind(): PartitionCursor | undefined {
    const count = this.#partitions.length
    for (let i = 1; i <= count; i++) {
      const progress = this.#partitions[(this.#rotation + i) % count]!
      if (progress.next >= progress.end) continue
      this.#rotation = (this.#rotation + i) % count
      return progress
    }
    return undefined
  }

  #room(): number {
    return [...this.#members].reduce((sum, member) => sum + member.room, 0)
  }

  #roomiest(): GroupMember | undefined {
    const [best] = [...this.#members].sort((a, b) => b.room - a.room)
    return best && best.room > 0 ? best : undefined
  }

  #finish(record: ConsumedRecord): void {
    this.#partitions[record.partition]!.window.finish(record.offset)
    this.#committing ??= this.#commit()
  }

  /** Commits until nothing is left; records that finish meanwhile go into the next round. */
  async #commit(): Promise<void> {
    try {
      do {
        await this.#commitRound()
        if (this.#commitEveryMs > 0 && this.#members.size > 0) await this.#pause()
      } while (this.#moved().length > 0)
    } catch (error) {
      this.#report(error)
    } finally {
      this.#committing = undefined
    }
  }

  async #pause(): Promise<void> {
    const over = Promise.withResolvers<void>()
    this.#hurry = over.resolve
    const timer = setTimeout(over.resolve, this.#commitEveryMs)
    await over.promise
    clearTimeout(timer)
  }

  async #commitRound(): Promise<void> {
    // Records that finish in the same tick are committed together.
    await undefined
    const moved = this.#moved()
    const positions = new Map(moved.map(({ partition, window }) => [partition, window.position]))
    await this.#source.commit(positions)
    for (const progress of moved) progress.committed = positions.get(progress.partition)!
  }

  #moved(): PartitionCursor[] {
    return this.#partitions.filter(({ window, committed }) => window.position > committed)
  }

  #release(records: ConsumedRecord[]): void {
    this.#ready = [...records, ...this.#ready].sort(inOrder)
    this.#pump()
  }

  async #leave(member: GroupMember): Promise<void> {
    this.#members.delete(member)
    this.#pump()
    this.#hurry?.()
    await this.#committing
  }

  #report(error: unknown): void {
    for (const member of this.#members) member.options.onError?.(error)
  }
}

function inOrder(a: ConsumedRecord, b: ConsumedRecord): number {
  return a.timestamp - b.timestamp || (a.offset < b.offset ? -1 : 1)
}
