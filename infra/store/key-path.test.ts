import fc from 'fast-check'
import { expect, test } from 'vitest'
import {
  type Child,
  childBytes,
  compareChildren,
  folderPath,
  fromBytes,
  objectPath,
  parseName,
  toBytes,
} from './key-path.ts'

test.each([
  ['captions/default/cap-1.json', ['captions', 'default', 'cap-1.json@']],
  ['A b/é', ['%41%20b', '%c3%a9@']],
  ['a/.b/..c', ['a', '%2eb', '%2e.c@']],
  ['x%41@,~', ['x%2541%40%2c%7e@']],
  [`${'a'.repeat(80)}/b`, ['a'.repeat(80), 'b@']],
  [`${'a'.repeat(80)}!b`, [`${'a'.repeat(80)},`, '%21b@']],
  [`${'a'.repeat(81)}`, [`${'a'.repeat(80)}~`, 'a@']],
])('%s', (key, names) => {
  expect(objectPath(key)).toEqual(names)
})

test('the folder of no prefix is the root, and dots never lead out of it', () => {
  expect(folderPath('')).toEqual([])
  expect(folderPath('../..')).toEqual(['%2e.', '%2e.'])
})

test.each(['.DS_Store', 'Thumbs', 'a%4', 'a@@', 'é', ''])('%j is no name of ours', (name) => {
  expect(parseName(name)).toBeUndefined()
})

/** Segments that are often long and often share a beginning. */
const segment = fc
  .tuple(
    fc.constantFrom('', 'a'.repeat(79), 'a'.repeat(80), 'a'.repeat(81), 'é'.repeat(100)),
    fc.string({
      unit: fc.constantFrom('a', 'B', '!', '-', '.', '0', '@', '%', '~', 'é', '🐟', '\0'),
      maxLength: 4,
    }),
  )
  .map((parts) => parts.join(''))
  .filter((text) => !['', '.', '..'].includes(text))
const key = fc.array(segment, { minLength: 1, maxLength: 3 }).map((segments) => segments.join('/'))

test('names are short, lower-case ASCII, and lead back to the key', () => {
  fc.assert(
    fc.property(key, (text) => {
      const names = objectPath(text)
      for (const name of names) expect(name).toMatch(/^[a-z0-9%_-][a-z0-9%._-]*[@,~]?$/)
      for (const name of names) expect(name.length).toBeLessThanOrEqual(255)
      expect(fromBytes(names.map((name) => childBytes(parseName(name)!)).join(''))).toBe(text)
    }),
  )
})

test('the order of paths, folder by folder, is the order of keys', () => {
  fc.assert(
    fc.property(key, key, (a, b) => {
      const byPath = comparePaths(objectPath(a), objectPath(b))
      const byBytes = Buffer.compare(Buffer.from(a), Buffer.from(b))
      expect(Math.sign(byPath)).toBe(byBytes)
      expect(toBytes(a) < toBytes(b)).toBe(byBytes < 0)
    }),
    { numRuns: 1000 },
  )
})

function comparePaths(a: string[], b: string[]): number {
  const children = (names: string[]): Child[] => names.map((name) => parseName(name)!)
  const [left, right] = [children(a), children(b)]
  const i = left.findIndex(({ name }, index) => name !== right[index]?.name)
  return i < 0 ? 0 : compareChildren(left[i]!, right[i]!)
}
