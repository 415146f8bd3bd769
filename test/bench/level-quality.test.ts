import { expect, test } from 'vitest'
import type { PruneLevel } from '../../processor/models/levels.ts'
import { levelQualities } from './level-quality.ts'

const level = (exact?: number): PruneLevel => ({
  r: [0],
  weight: [0],
  tokensOut: 1,
  pruneRatio: 0,
  flopShare: 1,
  quality: exact === undefined ? undefined : { exact, cider: exact },
})

test('a calibrated table says it itself; level 0 agrees with the unpruned model by definition', () => {
  const levels = [level(), level(0.99), level(0.9)]
  expect(levelQualities({ id: 'model', levels })).toEqual({ exact: [1, 0.99, 0.9], source: 'calibrated' })
})

test('the first table of the starter model was measured', () => {
  const { exact, source } = levelQualities({ id: 'model', levels: Array.from({ length: 8 }, () => level()) })
  expect(source).toBe('measured')
  expect(exact).toHaveLength(8)
})

test('any other table without quality is refused', () => {
  expect(() => levelQualities({ id: 'model', levels: [level(), level()] })).toThrow(/calibrate/)
})
