import { expect, test } from 'vitest'
import type { PruneLevel } from '../../processor/models/levels.ts'
import { burstTrace } from './arrivals.ts'
import { jitterOf, observedCosts } from './burst-prediction.ts'
import type { Answer } from './traffic-client.ts'

const levels = [0, 0.5].map(
  (pruneRatio): PruneLevel => ({
    r: [],
    weight: [],
    tokensOut: 1,
    pruneRatio,
    flopShare: 1 - pruneRatio / 2,
  }),
)
const trace = burstTrace({ burstRate: 100, seconds: 10, seed: 1 })

const answer = (
  scheduledMs: number,
  queue_ms: number,
  inference_ms: number,
  prune_level: number,
): Answer => ({
  scheduledMs,
  sentMs: scheduledMs,
  answeredMs: scheduledMs + queue_ms + inference_ms + 4,
  status: 200,
  pruning: {
    ...{ prune_level, prune_ratio: 0, queue_ms, inference_ms },
    ...{ tokens_in: 197, tokens_out: 197, output_tokens: 9, model: 'model' },
  },
})

test('takes the way to the device from the calm before the burst, and the runs from all of it', () => {
  const answers = [
    answer(1000, 5, 30, 0),
    answer(2000, 5, 31, 0),
    ...[300, 310, 320].map((queueMs, i) => answer(8000 + 300 * i, queueMs, 20 + i, 1)),
  ]
  const costs = observedCosts({
    trace,
    answers,
    model: { levels },
    buckets: [1, 2],
    decodeMs: 2,
    decoders: 1,
  })
  expect(costs).toMatchObject({ ingestMs: 3, decodeMs: 2, decoders: 1, overheadMs: 4, buckets: [1, 2] })
  expect(costs.levels.map(({ relativeCost }) => relativeCost)).toEqual([1, 0.75])
  expect(costs.samples).toEqual([
    { bucket: 1, level: 0, ms: 30 },
    { bucket: 1, level: 0, ms: 31 },
    { bucket: 1, level: 1, ms: 20 },
    { bucket: 1, level: 1, ms: 21 },
    { bucket: 1, level: 1, ms: 22 },
  ])
})

test('jitter is how far runs of one cell are apart, whatever the cells take', () => {
  const cell = (bucket: number, times: number[]) => times.map((ms) => ({ bucket, level: 0, ms }))
  expect(jitterOf([...cell(1, [10, 10]), ...cell(8, [70, 70, 70])])).toBe(0)
  const [low, high] = [Math.exp(-0.1), Math.exp(0.1)]
  expect(jitterOf(cell(1, [10 * low, 10, 10 * high]))).toBeCloseTo(0.1 * Math.sqrt(2 / 3))
})
