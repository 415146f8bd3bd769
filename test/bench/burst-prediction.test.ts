import { expect, test } from 'vitest'
import type { DeviceCosts } from '../../processor/simulator/device-costs.ts'
import { burstTrace } from './arrivals.ts'
import { costsInBurst, predictBurst } from './burst-prediction.ts'
import type { Answer } from './traffic-client.ts'

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

/** A device that takes twice as long for two images as for one, and half of it at level 1. */
const idle: DeviceCosts = {
  device: 'idle',
  levels: [0, 0.5].map((pruneRatio) => ({ pruneRatio, relativeCost: 1 - pruneRatio })),
  buckets: [1, 2],
  samples: [
    { bucket: 1, level: 0, ms: 20 },
    { bucket: 2, level: 0, ms: 40 },
    { bucket: 1, level: 1, ms: 10 },
    { bucket: 2, level: 1, ms: 20 },
  ],
  ...{ ingestMs: 3, decodeMs: 2, decoders: 1, overheadMs: 1 },
}
const burst = (count: number, ms: number, level: number) =>
  Array.from({ length: count }, (_, i) => answer(trace.beginMs + 300 * i, 5, ms + i / 100, level))

test('the device is as much slower as its runs in the burst were, also where none was; calm runs do not count', () => {
  const { costs, jitter } = costsInBurst(idle, {
    trace,
    answers: [answer(1000, 5, 20, 0), ...burst(3, 30, 0), ...burst(3, 15, 1)],
  })
  const times = costs.samples.map(({ ms }) => Math.round(ms))
  expect(times).toEqual([30, 60, 15, 30])
  expect(jitter).toBeLessThan(0.001)
  expect(costs).toMatchObject({ seeds: idle.samples, ingestMs: 3, decodeMs: 2 })
  expect(costs.overheadMs).toBeCloseTo(4)
})

test('jitter is how far runs are apart beyond that', () => {
  const [low, high] = [Math.exp(-0.1), Math.exp(0.1)]
  const { jitter } = costsInBurst(idle, {
    trace,
    answers: [20 * low, 20, 20 * high].flatMap((ms, i) => [answer(trace.beginMs + 300 * i, 5, ms, 0)]),
  })
  expect(jitter).toBeCloseTo(0.1 * Math.sqrt(2 / 3), 2)
})

test('the calm is predicted to be what an idle device makes of it', () => {
  const answers = trace.arrivalsMs.map((at) => answer(at, 5, 0.02, 0))
  const { p50_ms, mean_level } = predictBurst({ trace, answers, idle, sloMs: 500 })
  expect(mean_level).toEqual({ measured: 0, predicted: 0, difference: 0 })
  expect(p50_ms.predicted).toBeCloseTo(3 + 2 + 0.02 + 4, 0)
})
