import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DeadlineOrder, type QueueEntry } from './deadline-order.ts'

const entry = (sortKey: number, arrival: number, maxLevel = 0): QueueEntry => ({
  deadline: sortKey,
  sortKey,
  arrival,
  minLevel: 0,
  maxLevel,
  weight: 1 + (arrival % 5) / 4,
})
const all = (order: DeadlineOrder<QueueEntry>) => order.pick(Infinity, Infinity, () => true)
const sorted = (entries: readonly QueueEntry[]) =>
  entries.toSorted((a, b) => a.sortKey - b.sortKey || a.arrival - b.arrival)
const tallyOf = (entries: readonly QueueEntry[]) =>
  [0, 1, 2].map((level) =>
    entries.filter(({ maxLevel }) => maxLevel === level).reduce((sum, { weight }) => sum + weight, 0),
  )

const filled = (entries: readonly QueueEntry[]) => {
  const order = new DeadlineOrder<QueueEntry>(3)
  for (const each of entries) order.add(each)
  return order
}

test('is ordered by sort key, ties by arrival, whatever is added and removed', () => {
  const operation = fc.record({
    sortKey: fc.integer({ min: 0, max: 50 }),
    maxLevel: fc.nat(2),
    drop: fc.nat(200),
  })
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const order = new DeadlineOrder<QueueEntry>(3)
      let model: QueueEntry[] = []
      operations.forEach(({ sortKey, maxLevel, drop }, arrival) => {
        const added = entry(sortKey, arrival, maxLevel)
        order.add(added)
        model = sorted([...model, added])
        const dropped = model[drop]
        if (dropped === undefined) return
        expect(order.remove(dropped)).toBe(true)
        model.splice(drop, 1)
      })
      expect(all(order)).toEqual(model)
      expect(order.head).toBe(model[0])
      expect(order.size).toBe(model.length)
      expect(order.tally).toEqual(tallyOf(model))
    }),
    { seed: 1, numRuns: 50 },
  )
})

test('thousands of entries split and join blocks and keep their order', () => {
  const entries = Array.from({ length: 5000 }, (_, i) => entry((i * 7919) % 3001, i, i % 3))
  const order = filled(entries)
  expect(all(order)).toEqual(sorted(entries))
  const kept = entries.filter((_, i) => i % 10 === 0)
  for (const [i, each] of entries.entries()) if (i % 10 !== 0) expect(order.remove(each)).toBe(true)
  expect(all(order)).toEqual(sorted(kept))
  expect(order.tally).toEqual(tallyOf(kept))
})

test('removing what is not in the queue changes nothing', () => {
  const order = filled([entry(1, 0)])
  expect(order.remove(entry(1, 0))).toBe(false)
  expect(order.remove(entry(0, 1))).toBe(false)
  expect(new DeadlineOrder<QueueEntry>(3).remove(entry(1, 0))).toBe(false)
  expect(order.size).toBe(1)
})

test('picks in order, as many as wanted, no further than told', () => {
  const order = filled([3, 1, 2, 0].map((sortKey, i) => entry(sortKey, i, sortKey % 2)))
  const odd = (each: QueueEntry) => each.maxLevel === 1
  expect(order.pick(1, 10, odd).map(({ sortKey }) => sortKey)).toEqual([1])
  expect(order.pick(9, 10, odd).map(({ sortKey }) => sortKey)).toEqual([1, 3])
  expect(order.pick(9, 3, odd).map(({ sortKey }) => sortKey)).toEqual([1])
})

test('a walk starts rank and tally behind the images of other lanes', () => {
  const order = filled([entry(5, 0, 1), entry(4, 1, 2), entry(6, 2, 1)])
  const steps: unknown[] = []
  order.walk(({ sortKey }, rank, tally) => steps.push([sortKey, rank, [...tally]]), [10, 0, 0])
  expect(steps).toEqual([
    [4, 11, [10, 0, 1.25]],
    [5, 12, [10, 1, 1.25]],
    [6, 13, [10, 2.5, 1.25]],
  ])
})

test('a walk along a long queue visits few entries, the last one with the whole tally', () => {
  const entries = Array.from({ length: 50_000 }, (_, i) => entry(i, i, i % 3))
  const order = filled(entries)
  const ranks: number[] = []
  let last: unknown
  order.walk((each, rank, tally) => {
    expect(each.sortKey).toBe(rank - 1)
    ranks.push(rank)
    last = [...tally]
  })
  expect(ranks.slice(0, 64)).toEqual(Array.from({ length: 64 }, (_, i) => i + 1))
  expect(ranks.slice(64, 88)).toEqual(Array.from({ length: 24 }, (_, i) => 72 + 8 * i))
  expect(ranks.at(-1)).toBe(50_000)
  expect(ranks.length).toBeLessThan(500)
  expect(last).toEqual(tallyOf(entries))
})

test('counts who would be ahead of a new entry', () => {
  const entries = Array.from({ length: 2000 }, (_, i) => entry(i, i, i % 3))
  const order = filled(entries)
  expect(order.aheadOf(-1)).toEqual([0, 0, 0])
  expect(order.aheadOf(1499)).toEqual(tallyOf(entries.slice(0, 1500)))
  expect(order.aheadOf(Infinity)).toEqual(order.tally)
})

test('counts it for many new entries at once, also after blocks have changed', () => {
  const sortKeys = fc.array(fc.integer({ min: -10, max: 3100 }), { maxLength: 30 })
  const changes = fc.array(fc.nat(2999), { maxLength: 30 })
  const entries = Array.from({ length: 3000 }, (_, i) => entry((i * 7919) % 3001, i, i % 3))
  const order = filled(entries)
  const left = new Set(entries)
  fc.assert(
    fc.property(sortKeys, changes, (unsorted, indices) => {
      const sorted = unsorted.toSorted((a, b) => a - b)
      const expected = sorted.map((sortKey) => tallyOf([...left].filter((each) => each.sortKey <= sortKey)))
      expect(order.aheadOfEach(sorted)).toEqual(expected)
      for (const index of indices) {
        const each = entries[index]!
        if (left.delete(each)) order.remove(each)
        else {
          left.add(each)
          order.add(each)
        }
      }
    }),
    { seed: 1, numRuns: 100 },
  )
  for (const each of entries) if (!left.has(each)) order.add(each)
  const everywhere = Array.from({ length: 300 }, (_, i) => 10 * i)
  expect(order.aheadOfEach(everywhere)).toEqual(
    everywhere.map((sortKey) => tallyOf(entries.filter((each) => each.sortKey <= sortKey))),
  )
  expect(order.aheadOfEach([-1, Infinity], [1, 2])).toEqual([
    [1, 2, 0],
    order.tally.map((count, level) => count + ([1, 2][level] ?? 0)),
  ])
})
