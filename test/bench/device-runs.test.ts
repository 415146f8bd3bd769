import { expect, test } from 'vitest'
import { deviceRuns } from './device-runs.ts'
import type { Answer } from './traffic-client.ts'

/** An image whose run at `level` started at `startMs` and took `ms`. */
const answer = (startMs: number, ms: number, level = 0): Answer => ({
  scheduledMs: startMs - 30,
  sentMs: startMs - 20,
  answeredMs: startMs + ms,
  status: 200,
  pruning: {
    prune_level: level,
    prune_ratio: 0,
    tokens_in: 197,
    tokens_out: 197,
    output_tokens: 9,
    queue_ms: 20,
    inference_ms: ms,
    model: 'model',
  },
})
const buckets = [1, 2, 4]

test('images of one run count as one, in the bucket that holds them', () => {
  const answers = [answer(100, 40.1), answer(108, 40.1), answer(99, 40.1)]
  expect(deviceRuns(answers, buckets)).toEqual([{ bucket: 4, level: 0, ms: 40.1 }])
})

test('other levels, other times and other starts are other runs', () => {
  const answers = [answer(100, 40.1), answer(100, 40.1, 1), answer(100, 40.2), answer(900, 40.1)]
  expect(deviceRuns(answers, buckets)).toHaveLength(4)
})

test('a request without a caption tells nothing', () => {
  expect(deviceRuns([{ ...answer(100, 1), pruning: undefined, status: 429 }], buckets)).toEqual([])
})
