import { expect, test } from 'vitest'
import { Fingerprints } from './earlier-run.ts'

test('each text is new once, while the table grows', () => {
  const seen = new Fingerprints(4)
  const texts = Array.from({ length: 5000 }, (_, i) => `photos/${i}.jpg`)
  expect(texts.every((text) => seen.add(text))).toBe(true)
  expect(texts.some((text) => seen.add(text))).toBe(false)
  expect(seen.size).toBe(5000)
})
