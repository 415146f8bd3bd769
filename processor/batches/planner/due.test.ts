import { expect, test } from 'vitest'
import { dueAt } from './due.ts'

test.each([
  ['a minute', 60, 5],
  ['an hour', 3600, 180],
  ['a day', 86_400, 600],
])('a batch of %s is to be done before it expires', (_, seconds, reserveSeconds) => {
  expect(dueAt({ created_at: 1000, expires_at: 1000 + seconds })).toBe(
    1000 * (1000 + seconds - reserveSeconds),
  )
})
