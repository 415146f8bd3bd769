import { expect, test } from 'vitest'
import { sendWindow } from './send-window.ts'

test.each([
  [{ shardsPerSecond: 0, batches: 1 }, 16],
  [{ shardsPerSecond: 10, batches: 1 }, 300],
  [{ shardsPerSecond: 10, batches: 3 }, 100],
  [{ shardsPerSecond: 1e6, batches: 1 }, 10_000],
  [{ shardsPerSecond: 0, batches: 1000 }, 2],
  [{ shardsPerSecond: 0, batches: 0 }, 16],
])('%j: %d shards', (options, shards) => {
  expect(sendWindow(options)).toBe(shards)
})
