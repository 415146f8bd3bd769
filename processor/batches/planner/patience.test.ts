import { expect, test } from 'vitest'
import { Patience } from './patience.ts'

const minute = 60_000

test('looks for shards when nothing is heard, and now and then anyway', () => {
  const patience = new Patience(0)
  expect(patience.decide(5_000, 0).count).toBe(false)
  expect(patience.decide(10_000, 0).count).toBe(true)
  expect(patience.decide(20_000, 19_000).count).toBe(false)
  expect(patience.decide(70_000, 69_000).count).toBe(true)
})

test('sends again after ten minutes, then after twenty, and after ten when something was done', () => {
  const patience = new Patience(0)
  const resends: number[] = []
  for (let now = 0; now < 100 * minute; now += 5_000) {
    const doneAt = now < 40 * minute ? 0 : 40 * minute
    if (patience.decide(now, doneAt).resend) resends.push(now / minute)
  }
  expect(resends).toEqual([10, 30, 50, 70])
  expect(patience.decide(1000 * minute, 0)).toEqual({ count: true, resend: true })
})
