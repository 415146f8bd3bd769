import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { loadConfig } from '../../infra/config.ts'
import { tinyBlip } from '../models/tiny-blip.fixture.ts'
import { parseDeviceCosts } from './device-costs.ts'
import { measureDevice } from './measure.ts'

/** A service that says where the time of a request went. */
async function startService() {
  const turbine = { queue_ms: 6, inference_ms: 0 }
  const app = new Hono().post('/v1/captions', (c) => c.json({ status: 'completed', turbine }))
  const { promise, resolve } = Promise.withResolvers<AddressInfo>()
  const server = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, resolve)
  const { port } = await promise
  return {
    url: `http://127.0.0.1:${port}`,
    close: () => new Promise<void>((closed) => server.close(() => closed())),
  }
}

test('measures every batch size and level, decoding, and the way there and back', async () => {
  const { config } = loadConfig({ flags: { model: tinyBlip, device: 'cpu', maxBatch: 2 }, env: {} })
  const messages: string[] = []
  const table = await measureDevice({
    config,
    startService,
    rounds: 1,
    onProgress: (text) => messages.push(text),
  })
  const costs = parseDeviceCosts(table, 'what was measured')
  expect(table.buckets).toEqual([1, 2])
  expect(costs.samples).toHaveLength(2 * costs.levels.length)
  expect(costs.levels.length).toBeGreaterThan(1)
  expect(costs.decodeMs).toBeGreaterThan(0)
  expect(costs.ingestMs).toBeLessThan(6)
  expect(costs.overheadMs).toBeGreaterThanOrEqual(0)
  expect(costs.device).toContain('cpu')
  expect(messages).toContain('runs: round 1 of 1')
})
