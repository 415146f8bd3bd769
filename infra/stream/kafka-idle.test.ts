import RequestQueue from 'kafkajs/src/network/requestQueue/index.js'
import { afterEach, expect, test, vi } from 'vitest'
import './kafka-idle.ts'

afterEach(() => void vi.useRealTimers())

test('a connection without requests has no timer that fires for ever', () => {
  vi.useFakeTimers()
  const queue = new RequestQueue({
    maxInFlightRequests: 1,
    requestTimeout: 1000,
    enforceRequestTimeout: false,
    clientId: 'test',
    broker: 'localhost:9092',
    logger: { namespace: () => ({ debug() {} }) },
  })
  queue.checkPendingRequests()
  expect(vi.getTimerCount()).toBe(0)
})
