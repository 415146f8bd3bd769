import FlatQueue from 'flatqueue'

/**
 * Consumer group: owners of the partitions, and waiting records. As with the processors' consumers, partitions are assigned
 * round-robin, and a rebalance pauses the whole group.
 */
export class SimulatedGroup<Member, Item> {
  readonly partitions: number
  /** Waiting records, by offset. */
  readonly #waiting: FlatQueue<Item>[]
  #owners: (Member | undefined)[]
  readonly #partitionsOf = new Map<Member, number[]>()
  #size = 0
  #stopped = false

  constructor(partitions: number) {
    this.partitions = partitions
    this.#waiting = Array.from({ length: partitions }, () => new FlatQueue<Item>())
    this.#owners = new Array(partitions).fill(undefined)
  }

  /** Waiting records of all partitions. */
  get size(): number {
    return this.#size
  }

  /** Stops delivery until `assign`. */
  stop(): void {
    this.#stopped = true
  }

  /** Partition p goes to member p modulo their number, as the round-robin assigner has it. */
  assign(members: readonly Member[]): void {
    this.#stopped = false
    this.#owners = this.#waiting.map((_, partition) => members[partition % members.length])
    this.#partitionsOf.clear()
    for (const member of members) this.#partitionsOf.set(member, [])
    this.#owners.forEach((owner, partition) => {
      if (owner !== undefined) this.#partitionsOf.get(owner)!.push(partition)
    })
  }

  /** Current consumer of a partition. */
  ownerOf(partition: number): Member | undefined {
    return this.#stopped ? undefined : this.#owners[partition]
  }

  /** Adds a record to its partition, in order of offsets. */
  park(item: Item, { partition, offset }: { partition: number; offset: number }): void {
    this.#waiting[partition]!.push(item, offset)
    this.#size++
  }

  /** Takes at most `room` waiting records of this member, partition by partition. */
  takeFor(member: Member, room: number): Item[] {
    const taken: Item[] = []
    if (this.#stopped || this.#size === 0) return taken
    for (const partition of this.#partitionsOf.get(member) ?? []) {
      const waiting = this.#waiting[partition]!
      while (taken.length < room && waiting.length > 0) taken.push(waiting.pop()!)
    }
    this.#size -= taken.length
    return taken
  }
}
