import { describe, expect, it } from 'vitest'
import { perLayer, pruneRatio, semanticWeights, tokenCounts } from './schedule.ts'

describe('semanticWeights', () => {
  it('is 30 alpha in every merging layer by default', () => {
    expect(semanticWeights([8, 8, 8])).toEqual([150, 150, 150])
  })

  it('counts only layers that merge', () => {
    expect(semanticWeights([8, 0, 8, 8], { alpha: 1, beta: 0.5, gamma: 1 })).toEqual([15, 0, 30, 15])
  })
})

describe('perLayer', () => {
  it('repeats a number and pads a list', () => {
    expect(perLayer(3, 4)).toEqual([3, 3, 3, 3])
    expect(perLayer([5, 2], 4)).toEqual([5, 2, 0, 0])
  })

  it('refuses more entries than layers', () => {
    expect(() => perLayer([1, 2, 3], 2)).toThrow(/2 layers/)
  })
})

describe('tokenCounts', () => {
  it('follows the schedule', () => {
    expect(tokenCounts(577, perLayer(40, 12)).at(-1)).toBe(97)
  })

  it('caps at half and stops below the threshold', () => {
    expect(tokenCounts(77, perLayer(400, 3))).toEqual([77, 39, 39, 39])
    expect(tokenCounts(40, [400])).toEqual([40, 21])
  })
})

it('pruneRatio leaves CLS out', () => {
  expect(pruneRatio(577, 97)).toBeCloseTo(480 / 576)
})
