import { expect, test } from 'vitest'
import { duration, durationText, stragglers } from './option-values.ts'

test('durations with their units, read and written', () => {
  expect(['500ms', '20s', '1.5m', '2h', '1d'].map(duration)).toEqual([
    500, 20_000, 90_000, 7_200_000, 86_400_000,
  ])
  expect([500, 20_000, 90_000, 7_200_000, 0].map(durationText)).toEqual(['500ms', '20s', '90s', '2h', '0ms'])
  expect(() => duration('20')).toThrow(/500ms/)
  expect(() => duration('s')).toThrow(/500ms/)
})

test('a share of slow replicas', () => {
  expect(stragglers('0.05x3')).toEqual({ stragglers: 0.05, stragglerFactor: 3 })
  for (const text of ['3x0.5', '0.1', '2x2', '..x3']) expect(() => stragglers(text)).toThrow(/0.05x3/)
})
