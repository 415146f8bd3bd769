import { expect, test } from 'vitest'
import { SimulatedGroup } from './consumer-group.ts'

test('partitions go round the members in turn', () => {
  const group = new SimulatedGroup<string, number>(5)
  expect(group.ownerOf(0)).toBeUndefined()
  group.assign(['a', 'b'])
  expect([0, 1, 2, 3, 4].map((partition) => group.ownerOf(partition))).toEqual(['a', 'b', 'a', 'b', 'a'])
  group.assign([])
  expect(group.ownerOf(3)).toBeUndefined()
})

test('nobody gets anything while the group is stopped, and nothing is lost by it', () => {
  const group = new SimulatedGroup<string, number>(2)
  group.assign(['a'])
  group.stop()
  group.park(7, { partition: 0, offset: 7 })
  expect(group.ownerOf(0)).toBeUndefined()
  expect(group.takeFor('a', 10)).toEqual([])
  group.assign(['a'])
  expect(group.takeFor('a', 10)).toEqual([7])
  expect(group.size).toBe(0)
})

test('a member takes what lies in its partitions, in order, as far as it has room; what came back goes first', () => {
  const group = new SimulatedGroup<string, string>(2)
  group.assign(['a', 'b'])
  for (const [item, partition, offset] of [
    ['third', 0, 5],
    ['other', 1, 2],
    ['second', 0, 3],
  ] as const)
    group.park(item, { partition, offset })
  group.park('came back', { partition: 0, offset: 1 })
  expect(group.takeFor('a', 2)).toEqual(['came back', 'second'])
  expect(group.takeFor('a', 2)).toEqual(['third'])
  expect(group.takeFor('b', 2)).toEqual(['other'])
})
