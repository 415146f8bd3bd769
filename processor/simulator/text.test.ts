import { expect, test } from 'vitest'
import { type CostTable, parseDeviceCosts } from './device-costs.ts'
import { SimulationInputError } from './errors.ts'
import { simulate } from './simulate.ts'

/** 40 ms for a picture and its prompt, 4 ms for a step; half of the captions are long. */
const table = (joining: boolean, more: Partial<CostTable> = {}): CostTable => ({
  buckets: [1, 2, 4, 8],
  levels: [
    { pruneRatio: 0, ms: [40, 70, 130, 250] },
    { pruneRatio: 0.5, ms: [20, 35, 65, 125] },
  ],
  text: { stepMs: [4, 4.2, 4.6, 5.4], lengths: [8, 8, 8, 300], joining },
  ...more,
})

/** Requests so often, evenly, for a minute. */
const arrivals = (perSecond: number) =>
  Array.from({ length: 60 * perSecond }, (_, i) => ({ at: (1000 * i) / perSecond, deadlineMs: 20_000 }))

const played = (joining: boolean, perSecond: number) =>
  simulate({ arrivals: arrivals(perSecond), costs: parseDeviceCosts(table(joining), 'text') })

test('short captions do not wait for long ones where rows join', () => {
  const [joining, whole] = [played(true, 3), played(false, 3)]
  expect([joining, whole].map(({ shed }) => shed)).toEqual([0, 0])
  expect(joining.p50Ms).toBeLessThan(whole.p50Ms / 2)
  expect(joining.missShare).toBe(0)
  expect(simulate({ arrivals: arrivals(3), costs: parseDeviceCosts(table(true), 'text') })).toEqual(joining)
})

test('every request is answered or rejected, lines too', () => {
  for (const joining of [true, false]) {
    const report = simulate({
      arrivals: arrivals(8),
      costs: parseDeviceCosts(table(joining), 'text'),
      batch: { lines: 300, at: 0, windowMs: 3_600_000 },
    })
    expect(report.answered + report.shed).toBe(480)
    expect(report.batch!.doneAtMs).toBeGreaterThan(0)
  }
})

test.each([
  [{ stepMs: [4], lengths: [8] }, 'stepMs'],
  [{ stepMs: [4, 4, 4, 4], lengths: [] }, 'lengths'],
  [{ stepMs: [4, 4, 4, 0], lengths: [8] }, 'stepMs'],
])('a table with %j is refused', (text, field) => {
  expect(() => parseDeviceCosts(table(true, { text }), 'text')).toThrow(SimulationInputError)
  expect(() => parseDeviceCosts(table(true, { text }), 'text')).toThrow(field)
})
