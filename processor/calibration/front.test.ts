import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { agreementScore } from './agreement.ts'
import { type Confirmed, confirmLevels, descending, paretoFront, spread } from './front.ts'

const outcome = (flopShare: number, exact: number, tokensOut = Math.round(200 * flopShare)) => ({
  schedule: { r: [], weight: [] },
  flopShare,
  tokensOut,
  quality: { exact, cider: exact },
})
const confirmed = (flopShare: number, exact: number, heldOut: number): Confirmed => ({
  ...outcome(flopShare, exact),
  heldOut: { exact: heldOut, cider: heldOut },
})
const flops = (list: { flopShare: number }[]) => list.map(({ flopShare }) => flopShare)

describe('paretoFront', () => {
  it('leaves out what a cheaper one beats, and keeps ties', () => {
    const all = [outcome(0.5, 0.99), outcome(0.8, 1), outcome(0.6, 1), outcome(0.7, 0.98), outcome(0.3, 0.9)]
    expect(flops(paretoFront(all))).toEqual([0.8, 0.6, 0.5, 0.3])
  })

  it('takes the best of equal FLOPs', () => {
    expect(paretoFront([outcome(0.5, 0.9), outcome(0.5, 0.95)])).toMatchObject([{ quality: { exact: 0.95 } }])
  })

  it('descends in FLOPs and agreement, whatever it is given', () => {
    const outcomes = fc.array(
      fc.record({ f: fc.double({ min: 0.1, max: 1, noNaN: true }), q: fc.integer({ min: 0, max: 20 }) }),
    )
    fc.assert(
      fc.property(outcomes, (list) => {
        const front = paretoFront(list.map(({ f, q }) => outcome(f, q / 20)))
        for (const [i, { flopShare, quality }] of front.entries()) {
          if (i === 0) continue
          expect(flopShare).toBeLessThanOrEqual(front[i - 1]!.flopShare)
          expect(agreementScore(quality)).toBeLessThanOrEqual(agreementScore(front[i - 1]!.quality))
        }
      }),
    )
  })
})

describe('descending', () => {
  it('leaves fewer tokens with every step, and ends at the hardest', () => {
    const front = [
      outcome(0.8, 1, 150),
      outcome(0.6, 1, 90),
      outcome(0.5, 1, 30),
      outcome(0.4, 0.99, 60),
      outcome(0.3, 0.95, 40),
    ]
    expect(flops(descending(front))).toEqual([0.8, 0.6, 0.4, 0.3])
  })

  it('leaves out steps that save next to nothing', () => {
    const front = [outcome(0.8, 1, 150), outcome(0.41, 1, 61), outcome(0.4, 0.98, 60)]
    expect(flops(descending(front))).toEqual([0.8, 0.4])
  })

  it('is empty for an empty front', () => {
    expect(descending([])).toEqual([])
  })
})

describe('spread', () => {
  it('keeps a front that is short enough', () => {
    expect(flops(spread([outcome(0.8, 1), outcome(0.4, 1)], 5))).toEqual([0.8, 0.4])
  })

  it('is even in FLOPs where nothing is lost, and in agreement where it falls', () => {
    const front = [0.9, 0.8, 0.7, 0.6, 0.5, 0.4].map((f) => outcome(f, 1))
    front.push(...[0.99, 0.98, 0.97, 0.96, 0.95, 0.94, 0.93, 0.92].map((q, i) => outcome(0.39 - i / 100, q)))
    const chosen = spread(front, 6)
    expect(chosen).toHaveLength(6)
    expect(chosen.filter(({ quality }) => quality.exact === 1).length).toBeGreaterThanOrEqual(2)
    expect(chosen.filter(({ quality }) => quality.exact < 1).length).toBeGreaterThanOrEqual(3)
    expect(chosen.at(-1)).toBe(front.at(-1))
  })

  it('chooses as many as asked for, in order, the hardest last', () => {
    const cases = fc.record({
      shares: fc.uniqueArray(fc.integer({ min: 1, max: 99 }), { minLength: 1, maxLength: 40 }),
      count: fc.integer({ min: 1, max: 12 }),
    })
    fc.assert(
      fc.property(cases, ({ shares, count }) => {
        const front = shares.toSorted((a, b) => b - a).map((share, i) => outcome(share / 100, 1 - i / 100))
        const chosen = spread(front, count)
        expect(chosen).toHaveLength(Math.min(count, front.length))
        expect(chosen.at(-1)).toBe(front.at(-1))
        expect(flops(chosen)).toEqual(flops(chosen).toSorted((a, b) => b - a))
        expect(new Set(chosen).size).toBe(chosen.length)
      }),
    )
  })
})

describe('confirmLevels', () => {
  const options = { pictures: { search: 300, heldOut: 200 }, minExact: 0.85 }
  const reasons = (levels: Confirmed[]) =>
    confirmLevels(levels, options).dropped.map(({ outcome, reason }) => [outcome.flopShare, reason])

  it('keeps levels that held-out pictures confirm', () => {
    const levels = [confirmed(0.7, 1, 1), confirmed(0.5, 1, 0.995), confirmed(0.3, 0.95, 0.93)]
    expect(confirmLevels(levels, options)).toEqual({ levels, dropped: [] })
  })

  it('drops one that did well by chance', () => {
    const levels = [confirmed(0.7, 1, 1), confirmed(0.5, 0.99, 0.9), confirmed(0.3, 0.89, 0.88)]
    expect(reasons(levels)).toEqual([[0.5, expect.stringContaining('much less on held-out')]])
  })

  it('drops one that a harder one beats', () => {
    const levels = [confirmed(0.7, 1, 0.985), confirmed(0.5, 1, 0.99)]
    expect(reasons(levels)).toEqual([[0.7, expect.stringContaining('than a harder level')]])
  })

  it('drops one below the least share of equal captions', () => {
    expect(reasons([confirmed(0.3, 0.87, 0.84)])).toEqual([[0.3, expect.stringContaining('too few')]])
  })
})
