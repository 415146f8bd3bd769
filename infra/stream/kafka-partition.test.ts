import fc from 'fast-check'
import type { KafkaMessage } from 'kafkajs'
import { expect, test } from 'vitest'
import { PartitionProgress } from './kafka-partition.ts'

function messages(from: number, end: number): KafkaMessage[] {
  return Array.from({ length: end - from }, (_, i) => ({
    key: null,
    value: null,
    timestamp: '0',
    attributes: 0,
    offset: String(from + i),
    headers: {},
  }))
}

const takeAll = (progress: PartitionProgress) => {
  const offsets: number[] = []
  for (let message = progress.take(); message; message = progress.take()) offsets.push(Number(message.offset))
  return offsets
}

test('hands out what was fetched, in order, and commits what is finished', () => {
  const progress = new PartitionProgress(0, 5n)
  expect(progress.add(messages(5, 8))).toBe('taken')
  expect(progress.next).toBe(8n)
  expect(takeAll(progress)).toEqual([5, 6, 7])
  progress.finish(6n)
  expect(progress.uncommitted).toBeUndefined()
  progress.finish(5n)
  expect(progress.uncommitted).toBe(7n)
  progress.committed(7n)
  expect(progress.uncommitted).toBeUndefined()
})

test('after an interruption dispatches only what it never dispatched', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 6))
  for (let i = 0; i < 3; i++) progress.take()
  progress.interrupt()
  expect(progress.waiting).toBe(0)
  progress.add(messages(0, 6))
  expect(takeAll(progress)).toEqual([3, 4, 5])
})

test('after an interruption dispatches again what was left to others', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 6))
  takeAll(progress)
  progress.finish(2n)
  progress.interrupt([3n, 1n])
  progress.finish(0n)
  progress.add(messages(0, 6))
  expect(takeAll(progress)).toEqual([1, 2, 3, 4, 5])
  expect(progress.uncommitted).toBe(1n)
})

test('after an interruption it can take several fetches to get to what is new', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 4))
  takeAll(progress)
  progress.interrupt()
  for (const offset of [0, 1, 2, 3, 4]) expect(progress.add(messages(offset, offset + 1))).toBe('taken')
  expect(takeAll(progress)).toEqual([4])
})

test('a fetch from before an interruption skips nothing', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 4))
  progress.take()
  progress.interrupt()
  expect(progress.add(messages(4, 6))).toBe('uncertain')
  expect(progress.add(messages(0, 6))).toBe('taken')
  expect(takeAll(progress)).toEqual([1, 2, 3, 4, 5])
})

test('after an interruption it knows where to read on only when the group has told', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 4))
  expect(progress.next).toBe(4n)
  progress.interrupt()
  expect(progress.next).toBeUndefined()
  progress.add(messages(0, 2))
  expect(progress.next).toBe(2n)
})

test('commits nothing until it knows where the group stands', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 3))
  takeAll(progress)
  progress.interrupt()
  for (const offset of [0n, 1n]) progress.finish(offset)
  expect(progress.uncommitted).toBeUndefined()
  progress.add(messages(1, 3))
  expect(progress.uncommitted).toBe(2n)
})

test('commits nothing for a partition that is not ours', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 1))
  progress.take()
  progress.finish(0n)
  progress.assigned = false
  expect(progress.uncommitted).toBeUndefined()
})

test('never sets the group back behind what others have done', () => {
  const progress = new PartitionProgress(0, 0n)
  progress.add(messages(0, 3))
  takeAll(progress)
  progress.interrupt()
  expect(progress.add(messages(10, 12))).toBe('uncertain')
  expect(progress.add(messages(10, 12))).toBe('taken')
  progress.finish(0n)
  expect(progress.uncommitted).toBeUndefined()
  for (const offset of [1n, 2n]) progress.finish(offset)
  expect(takeAll(progress)).toEqual([10, 11])
  progress.finish(10n)
  expect(progress.uncommitted).toBe(11n)
})

test('refuses records below what is done: they belong to a topic that was made anew', () => {
  const fetched = new PartitionProgress(0, 0n)
  fetched.add(messages(0, 5))
  expect(fetched.add(messages(0, 2))).toBe('foreign')

  const committed = new PartitionProgress(0, 4n)
  committed.interrupt()
  expect(committed.add(messages(0, 2))).toBe('foreign')
})

/** A log of 30 records, a group that works through it, and one of its consumers with the partition under test. */
class Life {
  readonly end = 30
  readonly progress = new PartitionProgress(0, 0n)
  readonly done = new Set<number>()
  readonly handedOut: number[] = []
  readonly #inHand: number[] = []
  /** Where the group stands. */
  stands = 0
  /** Where the next fetch starts. */
  #position = 0
  /** Where a fetch started that was on its way when the partition went. */
  #late: number | undefined
  #member = true

  fetch(pick: number): void {
    this.#late = undefined
    if (this.#member) this.#add(this.#position, 1 + (pick % 8))
  }

  lateFetch(pick: number): void {
    if (this.#member && this.#late !== undefined) this.#add(this.#late, 1 + (pick % 8))
    this.#late = undefined
  }

  take(): void {
    const message = this.progress.take()
    if (!message) return
    this.handedOut.push(Number(message.offset))
    this.#inHand.push(Number(message.offset))
  }

  finish(pick: number): void {
    const [offset] = this.#inHand.splice(pick % Math.max(1, this.#inHand.length), 1)
    if (offset === undefined) return
    this.done.add(offset)
    this.progress.finish(BigInt(offset))
  }

  commit(): void {
    const { uncommitted } = this.progress
    if (uncommitted === undefined) return
    expect(this.#member).toBe(true)
    expect(Number(uncommitted)).toBeGreaterThan(this.stands)
    const undone = offsets(this.stands, Number(uncommitted)).filter((offset) => !this.done.has(offset))
    expect(undone).toEqual([])
    this.stands = Number(uncommitted)
    this.progress.committed(uncommitted)
  }

  /** Somebody else has the partition and gets some way. */
  lose(pick: number): void {
    this.#late ??= this.#position
    this.progress.assigned = false
    this.progress.interrupt()
    this.#member = false
    const reached = Math.min(this.end, this.stands + (pick % 7))
    for (const offset of offsets(this.stands, reached)) this.done.add(offset)
    this.stands = reached
  }

  regain(): void {
    if (this.#member) return
    this.progress.assigned = true
    this.progress.interrupt()
    this.#member = true
    this.#position = this.stands
  }

  /** Out of the group, and back before anybody has done anything. */
  expel(): void {
    this.lose(0)
    this.regain()
  }

  /** A rebalance that leaves the partition here. */
  stay(): void {
    if (!this.#member) return
    const { next } = this.progress
    if (next === undefined) this.progress.interrupt()
    this.#position = Number(next ?? this.stands)
  }

  /** Goes on undisturbed until the end. */
  complete(): void {
    this.regain()
    for (let i = 0; i < 2; i++) this.#add(this.#position, this.end)
    while (this.progress.waiting > 0) this.take()
    while (this.#inHand.length > 0) this.finish(0)
    this.commit()
  }

  #add(from: number, count: number): void {
    const upTo = Math.min(this.end, from + count)
    if (from >= upTo) return
    const added = this.progress.add(messages(from, upTo))
    expect(added).not.toBe('foreign')
    if (added === 'taken') this.#position = upTo
  }
}

const offsets = (from: number, end: number) => Array.from({ length: end - from }, (_, i) => from + i)

const step = fc.constantFrom(
  ...(['fetch', 'take', 'take', 'finish', 'finish', 'commit'] as const),
  ...(['lose', 'regain', 'expel', 'stay', 'lateFetch'] as const),
)

test('whatever happens to the group: nothing is lost, repeated here, or committed before it is done', () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(step, fc.nat(1000)), { maxLength: 120 }), (steps) => {
      const life = new Life()
      for (const [name, pick] of steps) life[name](pick)
      life.complete()
      expect(new Set(life.handedOut).size).toBe(life.handedOut.length)
      expect(life.done.size).toBe(life.end)
      expect(life.stands).toBe(life.end)
    }),
    { numRuns: 1_000 },
  )
})
