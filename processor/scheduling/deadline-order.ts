/** Image as a queue orders it. Times are unix ms; levels are indices into the model's prune levels. */
export interface QueueEntry {
  /** Infinity when it is never late. */
  deadline: number
  /** Deadline, or a finite stand-in for an image that has none. */
  sortKey: number
  /** Breaks ties: first come, first served. Unique within a queue. */
  arrival: number
  /** Lowest and highest level that the image may run at. */
  minLevel: number
  maxLevel: number
  /** What it takes of a device, in usual images; a multiple of 1/64, so that sums are exact. */
  weight: number
}

/** Weight of entries by their `maxLevel`, `tally[level]`: their number, where all are as usual. */
export type Tally = readonly number[]

interface Block<P> {
  entries: P[]
  tally: number[]
  /** Tallies before every 32nd entry, made when asked for and kept up to date from then on. */
  marks?: number[][]
}

/** Entries of a block at most: few enough that a splice is cheap, enough that 100,000 entries are few blocks. */
const blockSize = 512
/** Entries from one mark of a block to the next. */
const markEvery = 32
/** A walk visits this many entries one by one, then every eighth, and from 256 on only the last of each block. */
const visitedOneByOne = 64
const visitEvery = 8
const visitedNear = 256

/**
 * List of sorted blocks, ordered by `sortKey`. Adding and removing are two binary searches and a splice of at most 512
 * entries. Blocks also make a long queue cheap to walk: each knows its tally.
 */
export class DeadlineOrder<P extends QueueEntry> {
  readonly #blocks: Block<P>[] = []
  readonly #tally: number[]
  #size = 0

  /** @param levels number of prune levels of the model */
  constructor(levels: number) {
    this.#tally = new Array<number>(levels).fill(0)
  }

  get size(): number {
    return this.#size
  }

  get tally(): Tally {
    return this.#tally
  }

  get head(): P | undefined {
    return this.#blocks[0]?.entries[0]
  }

  add(entry: P): void {
    if (this.#blocks.length === 0) this.#blocks.push({ entries: [], tally: this.#tally.map(() => 0) })
    const index = this.#blockOf(entry)
    const block = this.#blocks[index]!
    const at = insertionPoint(block.entries, entry)
    block.entries.splice(at, 0, entry)
    this.#count(block, entry, 1)
    moveMarks(block, { at, entry, change: 1 })
    if (block.entries.length > blockSize) this.#split(index)
  }

  /** @returns false when the entry was not in the queue */
  remove(entry: P): boolean {
    const index = this.#blockOf(entry)
    const block = this.#blocks[index]
    if (block === undefined) return false
    const at = insertionPoint(block.entries, entry) - 1
    if (block.entries[at] !== entry) return false
    block.entries.splice(at, 1)
    this.#count(block, entry, -1)
    moveMarks(block, { at, entry, change: -1 })
    this.#tidy(index)
    return true
  }

  /** First entries that `accept` takes: at most `count`, searched among the first `within`. */
  pick(count: number, within: number, accept: (entry: P) => boolean): P[] {
    const picked: P[] = []
    let left = within
    for (const { entries } of this.#blocks) {
      for (const entry of entries) {
        if (picked.length >= count || left-- <= 0) return picked
        if (accept(entry)) picked.push(entry)
      }
    }
    return picked
  }

  /**
   * Calls `visit` in order with the entry's rank (1 is the head) and the tally up to and including it. The head of a long
   * queue is visited entry by entry, then more and more sparsely; a visited entry stands for those before it. `tally` is
   * reused between calls. Ranks and tallies start behind `ahead`, images of other lanes that are served first.
   */
  walk(visit: (entry: P, rank: number, tally: Tally) => void, ahead: Tally = []): void {
    const tally = this.#tally.map((_, level) => ahead[level] ?? 0)
    const others = sum(ahead)
    let seen = 0
    for (const { entries, tally: whole } of this.#blocks) {
      const near = Math.min(entries.length - 1, visitedNear - seen)
      const before = near > 0 ? [...tally] : tally
      for (let at = 0; at < near; at++) {
        const rank = seen + at + 1
        count(tally, entries[at]!)
        if (rank <= visitedOneByOne || rank % visitEvery === 0) visit(entries[at]!, others + rank, tally)
      }
      for (let level = 0; level < tally.length; level++) tally[level] = before[level]! + whole[level]!
      seen += entries.length
      visit(entries.at(-1)!, others + seen, tally)
    }
  }

  /** Tally of the entries ahead of a new one with this `sortKey`. */
  aheadOf(sortKey: number): Tally {
    return this.aheadOfEach([sortKey])[0]!
  }

  /** Same for several `sortKeys`, ascending, in one pass. The tallies start with `ahead`, as those of a walk do. */
  aheadOfEach(sortKeys: readonly number[], ahead: Tally = []): Tally[] {
    const before = this.#tally.map((_, level) => ahead[level] ?? 0)
    let index = 0
    return sortKeys.map((sortKey) => {
      let block = this.#blocks[index]
      while (block && block.entries.at(-1)!.sortKey <= sortKey) {
        addInto(before, block.tally)
        block = this.#blocks[++index]
      }
      const tally = [...before]
      if (block) addUpTo(tally, block, sortKey)
      return tally
    })
  }

  /** Last block whose first entry is not after `entry`; the first block when there is none. */
  #blockOf(entry: QueueEntry): number {
    let low = 0
    let high = this.#blocks.length
    while (high - low > 1) {
      const middle = (low + high) >> 1
      if (isBefore(entry, this.#blocks[middle]!.entries[0]!)) high = middle
      else low = middle
    }
    return low
  }

  #count(block: Block<P>, entry: P, change: 1 | -1): void {
    count(block.tally, entry, change)
    count(this.#tally, entry, change)
    this.#size += change
  }

  #split(index: number): void {
    const { entries } = this.#blocks[index]!
    const halves = [entries.slice(0, blockSize / 2), entries.slice(blockSize / 2)]
    this.#blocks.splice(index, 1, ...halves.map((half) => this.#blockFrom(half)))
  }

  /** Drops an emptied block and joins it with the next when both are small, so that a walk stays short. */
  #tidy(index: number): void {
    const { entries } = this.#blocks[index]!
    const next = this.#blocks[index + 1]?.entries
    if (entries.length === 0) this.#blocks.splice(index, 1)
    else if (next && entries.length + next.length <= blockSize / 2)
      this.#blocks.splice(index, 2, this.#blockFrom([...entries, ...next]))
  }

  #blockFrom(entries: P[]): Block<P> {
    const tally = this.#tally.map(() => 0)
    for (const entry of entries) count(tally, entry)
    return { entries, tally }
  }
}

type Position = Pick<QueueEntry, 'sortKey' | 'arrival'>

const isBefore = (a: Position, b: Position) =>
  a.sortKey < b.sortKey || (a.sortKey === b.sortKey && a.arrival < b.arrival)

/** Index behind the last entry that is not after `entry`. */
function insertionPoint(entries: readonly QueueEntry[], entry: Position): number {
  let low = 0
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >> 1
    if (isBefore(entry, entries[middle]!)) high = middle
    else low = middle + 1
  }
  return low
}

/** Adds the entries of the block up to `sortKey`. */
function addUpTo(tally: number[], block: Block<QueueEntry>, sortKey: number): void {
  const { entries } = block
  block.marks ??= marksOf(entries, tally.length)
  const end = insertionPoint(entries, { sortKey, arrival: Number.POSITIVE_INFINITY })
  const mark = Math.floor(end / markEvery)
  addInto(tally, block.marks[mark]!)
  for (let at = mark * markEvery; at < end; at++) count(tally, entries[at]!)
}

/** Corrects the marks behind an entry that was added or removed at `at`: one neighbour moves across each. */
function moveMarks(
  block: Block<QueueEntry>,
  { at, entry, change }: { at: number; entry: QueueEntry; change: 1 | -1 },
): void {
  const { marks, entries } = block
  if (marks === undefined) return
  for (let mark = Math.floor(at / markEvery) + 1; mark < marks.length; mark++) {
    const moved = entries[mark * markEvery - (change === 1 ? 0 : 1)]!
    count(marks[mark]!, entry, change)
    count(marks[mark]!, moved, change === 1 ? -1 : 1)
  }
  if ((marks.length - 1) * markEvery >= entries.length) marks.pop()
  if (marks.length * markEvery < entries.length) {
    const beforeLast = [...block.tally]
    count(beforeLast, entries.at(-1)!, -1)
    marks.push(beforeLast)
  }
}

function marksOf(entries: readonly QueueEntry[], levels: number): number[][] {
  const tally = new Array<number>(levels).fill(0)
  const marks: number[][] = []
  for (const [at, entry] of entries.entries()) {
    if (at % markEvery === 0) marks.push([...tally])
    count(tally, entry)
  }
  return marks
}

function count(tally: number[], { maxLevel, weight }: QueueEntry, change: 1 | -1 = 1): void {
  tally[maxLevel]! += change * weight
}

function addInto(tally: number[], other: Tally): void {
  for (let level = 0; level < other.length; level++) tally[level]! += other[level]!
}

export function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0)
}
