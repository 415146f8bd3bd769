import { expect, test } from 'vitest'
import { bestAtEqualQuality, outcomeOf, scheduledWithin, summarise } from './burst-summary.ts'
import type { Answer } from './traffic-client.ts'

/** A caption at `level` that came `latencyMs` after it was to be asked for. */
const answer = (latencyMs: number, level = 0, rest: Partial<Answer> = {}): Answer => ({
  scheduledMs: 1000,
  sentMs: 1100,
  answeredMs: 1000 + latencyMs,
  status: 200,
  pruning: {
    prune_level: level,
    prune_ratio: level / 10,
    tokens_in: 197,
    tokens_out: 197,
    output_tokens: 9,
    queue_ms: 1,
    inference_ms: 1,
    model: 'model',
  },
  ...rest,
})
const without = (status: number) => answer(10, 0, { status, pruning: undefined })

test('latency counts from when the request was to be sent', () => {
  expect(outcomeOf(answer(500), 500)).toBe('in_time')
  expect(outcomeOf(answer(501), 500)).toBe('late')
})

test('everything that is no caption in time is a miss, by its kind', () => {
  expect(outcomeOf(without(429), 500)).toBe('shed')
  expect(outcomeOf(without(202), 500)).toBe('late')
  expect(outcomeOf(without(503), 500)).toBe('failed')
  expect(outcomeOf(without(0), 500)).toBe('failed')
})

test('sums up: misses of all requests, latency and quality of the captions', () => {
  const answers = [answer(100), answer(200, 2), answer(900, 2), without(429)]
  const summary = summarise(answers, { sloMs: 500, durationMs: 4000, exact: [1, 0.99, 0.9] })
  expect(summary).toMatchObject({
    requests: 4,
    missShare: 0.5,
    counts: { in_time: 2, late: 1, shed: 1, failed: 0 },
    goodput: 0.5,
    p50Ms: 200,
    p99Ms: 900,
  })
  expect(summary.meanLevel).toBeCloseTo(4 / 3)
  expect(summary.meanPrune).toBeCloseTo(0.4 / 3)
  expect(summary.meanQuality).toBeCloseTo(2.8 / 3)
})

test('takes what was to be sent from one time on and before another', () => {
  const at = (scheduledMs: number) => answer(0, 0, { scheduledMs })
  const picked = scheduledWithin([at(999), at(1000), at(1999), at(2000)], 1000, 2000)
  expect(picked.map(({ scheduledMs }) => scheduledMs)).toEqual([1000, 1999])
})

test('of the fixed policies that are as good, the one that misses least', () => {
  const policy = (missShare: number, meanQuality: number) => ({
    ...summarise([answer(1)], { sloMs: 500, durationMs: 1000, exact: [1] }),
    missShare,
    meanQuality,
  })
  const adaptive = policy(0.01, 0.95)
  const fixed = [policy(0.9, 1), policy(0.5, 0.97), policy(0.4, 0.95), policy(0, 0.9)]
  expect(bestAtEqualQuality(fixed, adaptive)).toBe(fixed[2])
  expect(bestAtEqualQuality([policy(0, 0.9)], adaptive)).toBeUndefined()
})
