import fc from 'fast-check'
import { expect, test } from 'vitest'
import { CustomIdSet } from './custom-id-set.ts'

test('knows what it was given, like a set', () => {
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 3 })), (ids) => {
      const seen = new CustomIdSet()
      const expected = new Set<string>()
      for (const id of ids) {
        expect(seen.add(id)).toBe(!expected.has(id))
        expected.add(id)
      }
      expect(seen.size).toBe(expected.size)
    }),
  )
})

test('forgets nothing when it grows', () => {
  const seen = new CustomIdSet()
  for (let i = 0; i < 20_000; i++) expect(seen.add(`image-${i}`)).toBe(true)
  for (let i = 0; i < 20_000; i++) expect(seen.add(`image-${i}`)).toBe(false)
  expect(seen.size).toBe(20_000)
})
