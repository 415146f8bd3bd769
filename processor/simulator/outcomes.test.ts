import { expect, test } from 'vitest'
import { Outcomes } from './outcomes.ts'

test('a request is answered or rejected, and that once', () => {
  const outcomes = new Outcomes([{ at: 0 }, { at: 1 }, { at: 2 }])
  outcomes.answer(0, { at: 9, level: 2 })
  outcomes.reject(1)
  expect(outcomes).toMatchObject({ open: 1, rejected: 1 })
  expect([0, 1, 2].map((request) => outcomes.isAnswered(request))).toEqual([true, false, false])
  expect(() => outcomes.answer(0, { at: 10, level: 0 })).toThrow(/Request 0 was answered twice/)
  expect(() => outcomes.answer(1, { at: 10, level: 0 })).toThrow(/Request 1 was answered twice/)
})
