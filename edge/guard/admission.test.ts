import { expect, test } from 'vitest'
import { hasPlace } from './admission.ts'

/** Takes as many places as a tenant gets. */
function fill(limit: number, taken: number): number {
  let own = 0
  while (hasPlace({ limit, taken: taken + own, own })) own++
  return own
}

test('however many tenants take what they can get, one that has no place yet finds one', () => {
  const limit = 1000
  const tenants: number[] = []
  for (let taken = 0; tenants.length < 3; taken += tenants.at(-1)!) tenants.push(fill(limit, taken))
  expect(tenants).toEqual([901, 90, 9])
  expect(hasPlace({ limit, taken: limit, own: 0 })).toBe(false)
})

test.each([1, 2, 5, 10])('a queue of %i places is not divided', (limit) => {
  expect(fill(limit, 0)).toBe(limit)
})
