import { expect, it } from 'vitest'
import { encoderFlops, flopShare } from './flops.ts'
import { perLayer } from './schedule.ts'

const base = { tokens: 577, layers: 12, width: 768, mlpWidth: 3072, heads: 12 }

it('counts what a ViT-B/16 at 384 px costs', () => {
  // 12 layers of 12 D^2 per token and 2 N^2 D for attention, 2 FLOPs each.
  const expected = 12 * (2 * 577 * 12 * 768 ** 2 + 4 * 577 ** 2 * 768)
  expect(encoderFlops(base, perLayer(0, 12))).toBe(expected)
})

it('is a share of 1 / 1.79 at r = 40', () => {
  expect(1 / flopShare(base, perLayer(40, 12))).toBeCloseTo(1.79, 1)
})

it('does not count merges that the threshold stops', () => {
  expect(flopShare({ ...base, tokens: 30 }, perLayer(5, 12))).toBe(1)
})
