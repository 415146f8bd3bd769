import { expect, test } from 'vitest'
import { maxAllowedLevel } from './level.ts'

const levels = [0, 0.3, 0.6].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio }))

test.each([
  [0, 0],
  [0.29, 0],
  [0.3, 1],
  [0.59, 1],
  [1, 2],
])('max prune %d allows level %d', (maxPrune, level) => {
  expect(maxAllowedLevel(levels, maxPrune)).toBe(level)
})
