import fc from 'fast-check'
import { expect, test } from 'vitest'
import { DeadlineOrder, type Place } from './deadline-order.ts'

const place = (due: number, arrival: number, hardest = 0): Place => ({
  deadline: due,
  due,
  arrival,
  least: 0,
  hardest,
})
const all = (line: DeadlineOrder<Place>) => line.pick(Infinity, Infinity, () => true)
const sorted = (places: readonly Place[]) => places.toSorted((a, b) => a.due - b.due || a.arrival - b.arrival)
const tallyOf = (places: readonly Place[]) =>
  [0, 1, 2].map((level) => places.filter(({ hardest }) => hardest === level).length)

const filled = (places: readonly Place[]) => {
  const line = new DeadlineOrder<Place>(3)
  for (const each of places) line.add(each)
  return line
}

test('is ordered by due, ties by arrival, whatever is added and removed', () => {
  const operation = fc.record({ due: fc.integer({ min: 0, max: 50 }), hardest: fc.nat(2), drop: fc.nat(200) })
  fc.assert(
    fc.property(fc.array(operation, { maxLength: 300 }), (operations) => {
      const line = new DeadlineOrder<Place>(3)
      let model: Place[] = []
      operations.forEach(({ due, hardest, drop }, arrival) => {
        const added = place(due, arrival, hardest)
        line.add(added)
        model = sorted([...model, added])
        const dropped = model[drop]
        if (dropped === undefined) return
        expect(line.remove(dropped)).toBe(true)
        model.splice(drop, 1)
      })
      expect(all(line)).toEqual(model)
      expect(line.head).toBe(model[0])
      expect(line.size).toBe(model.length)
      expect(line.tally).toEqual(tallyOf(model))
    }),
    { seed: 1, numRuns: 50 },
  )
})

test('thousands of places split and join blocks and keep their order', () => {
  const places = Array.from({ length: 5000 }, (_, i) => place((i * 7919) % 3001, i, i % 3))
  const line = filled(places)
  expect(all(line)).toEqual(sorted(places))
  const kept = places.filter((_, i) => i % 10 === 0)
  for (const [i, each] of places.entries()) if (i % 10 !== 0) expect(line.remove(each)).toBe(true)
  expect(all(line)).toEqual(sorted(kept))
  expect(line.tally).toEqual(tallyOf(kept))
})

test('removing what does not stand there changes nothing', () => {
  const line = filled([place(1, 0)])
  expect(line.remove(place(1, 0))).toBe(false)
  expect(line.remove(place(0, 1))).toBe(false)
  expect(new DeadlineOrder<Place>(3).remove(place(1, 0))).toBe(false)
  expect(line.size).toBe(1)
})

test('picks in order, as many as wanted, no further than told', () => {
  const line = filled([3, 1, 2, 0].map((due, i) => place(due, i, due % 2)))
  const odd = (each: Place) => each.hardest === 1
  expect(line.pick(1, 10, odd).map(({ due }) => due)).toEqual([1])
  expect(line.pick(9, 10, odd).map(({ due }) => due)).toEqual([1, 3])
  expect(line.pick(9, 3, odd).map(({ due }) => due)).toEqual([1])
})

test('a walk knows rank and tally behind the images of other lines', () => {
  const line = filled([place(5, 0, 1), place(4, 1, 2), place(6, 2, 1)])
  const steps: unknown[] = []
  line.walk(({ due }, rank, tally) => steps.push([due, rank, [...tally]]), [10, 0, 0])
  expect(steps).toEqual([
    [4, 11, [10, 0, 1]],
    [5, 12, [10, 1, 1]],
    [6, 13, [10, 2, 1]],
  ])
})

test('a walk along a long line visits few places, the last one with the whole tally', () => {
  const places = Array.from({ length: 50_000 }, (_, i) => place(i, i, i % 3))
  const line = filled(places)
  const ranks: number[] = []
  let last: unknown
  line.walk((each, rank, tally) => {
    expect(each.due).toBe(rank - 1)
    ranks.push(rank)
    last = [...tally]
  })
  expect(ranks.slice(0, 64)).toEqual(Array.from({ length: 64 }, (_, i) => i + 1))
  expect(ranks.slice(64, 88)).toEqual(Array.from({ length: 24 }, (_, i) => 72 + 8 * i))
  expect(ranks.at(-1)).toBe(50_000)
  expect(ranks.length).toBeLessThan(500)
  expect(last).toEqual(tallyOf(places))
})

test('tells who would stand ahead of a newcomer', () => {
  const places = Array.from({ length: 2000 }, (_, i) => place(i, i, i % 3))
  const line = filled(places)
  expect(line.aheadOf(-1)).toEqual([0, 0, 0])
  expect(line.aheadOf(1499)).toEqual(tallyOf(places.slice(0, 1500)))
  expect(line.aheadOf(Infinity)).toEqual(line.tally)
})

test('tells it for many newcomers at once, also after blocks have changed', () => {
  const dues = fc.array(fc.integer({ min: -10, max: 3100 }), { maxLength: 30 })
  const changes = fc.array(fc.nat(2999), { maxLength: 30 })
  const places = Array.from({ length: 3000 }, (_, i) => place((i * 7919) % 3001, i, i % 3))
  const line = filled(places)
  const left = new Set(places)
  fc.assert(
    fc.property(dues, changes, (unsorted, indices) => {
      const sorted = unsorted.toSorted((a, b) => a - b)
      const expected = sorted.map((due) => tallyOf([...left].filter((each) => each.due <= due)))
      expect(line.aheadOfEach(sorted)).toEqual(expected)
      for (const index of indices) {
        const each = places[index]!
        if (left.delete(each)) line.remove(each)
        else {
          left.add(each)
          line.add(each)
        }
      }
    }),
    { seed: 1, numRuns: 100 },
  )
  for (const each of places) if (!left.has(each)) line.add(each)
  const everywhere = Array.from({ length: 300 }, (_, i) => 10 * i)
  expect(line.aheadOfEach(everywhere)).toEqual(
    everywhere.map((due) => tallyOf(places.filter((each) => each.due <= due))),
  )
  expect(line.aheadOfEach([-1, Infinity], [1, 2])).toEqual([
    [1, 2, 0],
    line.tally.map((count, level) => count + ([1, 2][level] ?? 0)),
  ])
})
