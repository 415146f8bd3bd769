import { expect, test } from 'vitest'
import { rateOf } from './pipeline.ts'

test('the rate is that of the events behind the first share', () => {
  // One a second at first, then ten a second.
  const times = [0, 1000, 2000, 2100, 2200, 2300, 2400, 2500, 2600]
  expect(rateOf(times, 0.25)).toBeCloseTo(10)
  expect(rateOf(times, 0)).toBeCloseTo(8 / 2.6)
})
