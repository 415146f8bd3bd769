import fc from 'fast-check'
import { expect, test } from 'vitest'
import { FingerprintSet } from './fingerprint-set.ts'

test.each([2, 3] as const)('knows what it was given, like a set: %i words', (words) => {
  fc.assert(
    fc.property(fc.array(fc.string({ maxLength: 3 })), (ids) => {
      const seen = new FingerprintSet(words)
      const expected = new Set<string>()
      for (const id of ids) {
        expect(seen.add(id)).toBe(!expected.has(id))
        expected.add(id)
      }
      expect(seen.size).toBe(expected.size)
    }),
  )
})

test.each([2, 3] as const)('forgets nothing when it grows: %i words', (words) => {
  const seen = new FingerprintSet(words)
  for (let i = 0; i < 20_000; i++) expect(seen.add(`image-${i}`)).toBe(true)
  for (let i = 0; i < 20_000; i++) expect(seen.add(`image-${i}`)).toBe(false)
  expect(seen.size).toBe(20_000)
})
