import { expect, test } from 'vitest'
import { backoffMs } from './backoff.ts'

test('doubles from 100 ms and stays at 10 s', () => {
  expect([1, 2, 3, 7, 8, 2000].map(backoffMs)).toEqual([100, 200, 400, 6400, 10_000, 10_000])
})
