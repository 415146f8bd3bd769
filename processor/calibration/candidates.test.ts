import { describe, expect, it } from 'vitest'
import { flopShare } from '../turbo/flops.ts'
import { tokenCounts } from '../turbo/schedule.ts'
import { family, neighbours, rescaled, scheduleKey, toSchedule } from './candidates.ts'

const encoder = { tokens: 197, layers: 12, width: 192, mlpWidth: 768, heads: 3 }
const keys = (candidates: Parameters<typeof toSchedule>[0][]) =>
  candidates.map((candidate) => scheduleKey(toSchedule(candidate)))

describe('family', () => {
  it.each([0.85, 0.5, 0.3])('comes close to %f of the FLOPs, and not above', (target) => {
    const candidates = family(encoder, target)
    expect(candidates.length).toBeGreaterThan(10)
    for (const { r } of candidates) {
      expect(flopShare(encoder, r)).toBeLessThanOrEqual(target)
      expect(flopShare(encoder, r)).toBeGreaterThan(0.9 * target)
    }
  })

  it('has constant and falling r, as ToMe, weighted everywhere and weighted late', () => {
    const candidates = family(encoder, 0.7)
    expect(candidates.some(({ r }) => r.every((value) => Math.abs(value - r[0]!) <= 1))).toBe(true)
    expect(candidates.some(({ r }) => r[0]! > 4 * r[4]!)).toBe(true)
    const weights = new Set(
      candidates.map((c) =>
        toSchedule(c)
          .weight.map((w) => (w > 0 ? 1 : 0))
          .join(''),
      ),
    )
    expect([...weights]).toEqual(expect.arrayContaining(['000000000000', '111111111111', '000000111111']))
  })

  it('names each schedule once', () => {
    const all = keys(family(encoder, 0.4))
    expect(new Set(all).size).toBe(all.length)
  })

  it('is empty where no schedule reaches the target', () => {
    expect(family(encoder, 0.05)).toEqual([])
  })

  it('says what layers really merge', () => {
    for (const { r } of family(encoder, 0.22)) {
      const counts = tokenCounts(encoder.tokens, r)
      expect(r.map((_, layer) => counts[layer]! - counts[layer + 1]!)).toEqual(r)
    }
  })
})

describe('rescaled', () => {
  it('brings a candidate to other FLOPs and keeps its rule for the weights', () => {
    const candidate = { r: [30, 20, 10, 5, 0, 0, 0, 0, 0, 0, 0, 0], alpha: 0.3, from: 6 }
    const harder = rescaled(encoder, 0.4, candidate)!
    expect(flopShare(encoder, harder.r)).toBeLessThanOrEqual(0.4)
    expect(harder).toMatchObject({ alpha: 0.3, from: 6 })
    expect(harder.r[0]! / harder.r[2]!).toBeCloseTo(3, 0)
  })

  it('is undefined where no scale reaches the target', () => {
    expect(rescaled(encoder, 0.5, { r: new Array(12).fill(0), alpha: 0, from: 0 })).toBeUndefined()
  })
})

describe('neighbours', () => {
  const candidate = family(encoder, 0.4)[0]!

  it('moves single layers and weights at equal FLOPs', () => {
    const moves = neighbours(encoder, 0.4, candidate, 0.2)
    expect(moves.length).toBeGreaterThan(8)
    for (const { r } of moves) expect(flopShare(encoder, r)).toBeLessThanOrEqual(0.4)
    const first = candidate.r[0]!
    expect(moves.some(({ r }) => r[0]! > first)).toBe(true)
    expect(moves.some(({ r }) => r[0]! < first)).toBe(true)
    expect(moves.some(({ alpha }) => alpha === 5)).toBe(true)
  })

  it('moves less with a smaller size', () => {
    const furthest = (size: number) =>
      Math.max(...neighbours(encoder, 0.4, candidate, size).map(({ r }) => Math.abs(r[0]! - candidate.r[0]!)))
    expect(furthest(0.05)).toBeLessThan(furthest(0.2))
  })

  it('does not name the candidate itself, nor one twice', () => {
    const moves = keys(neighbours(encoder, 0.4, candidate, 0.2))
    expect(moves).not.toContain(scheduleKey(toSchedule(candidate)))
    expect(new Set(moves).size).toBe(moves.length)
  })
})
