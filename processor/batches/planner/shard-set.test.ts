import fc from 'fast-check'
import { expect, test } from 'vitest'
import { ShardSet } from './shard-set.ts'

test('is a set of numbers, also after being kept', () => {
  fc.assert(
    fc.property(fc.array(fc.nat({ max: 1000 })), (shards) => {
      const set = new ShardSet()
      const expected = new Set<number>()
      for (const shard of shards) {
        expect(set.add(shard)).toBe(!expected.has(shard))
        expected.add(shard)
      }
      let firstMissing = 0
      while (expected.has(firstMissing)) firstMissing++
      for (const same of [set, ShardSet.parse(set.toString())]) {
        expect(same.firstMissing).toBe(firstMissing)
        expect(same.end).toBe(Math.max(-1, ...expected) + 1)
        for (let shard = 0; shard <= 1001; shard++) expect(same.has(shard)).toBe(expected.has(shard))
      }
    }),
    { numRuns: 50 },
  )
})
