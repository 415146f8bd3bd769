import { randomUUID } from 'node:crypto'
import { expect, test } from 'vitest'
import { partitionOf } from './partition.ts'

test('one key always gets the same partition', () => {
  expect(partitionOf('crème brûlée', 7)).toBe(partitionOf('crème brûlée', 7))
})

test('spreads keys evenly', () => {
  const counts = [0, 0, 0, 0]
  for (let i = 0; i < 4000; i++) counts[partitionOf(randomUUID(), 4)]! += 1
  for (const count of counts) expect(count).toBeGreaterThan(800)
})
