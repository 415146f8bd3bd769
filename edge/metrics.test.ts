import { expect, test } from 'vitest'
import { createMetrics } from '../infra/telemetry/metrics.ts'
import { fakeEdge } from './app.fixture.ts'
import { createEdgeMetrics } from './metrics.ts'

test('requests are counted and timed, and /metrics shows them', async () => {
  const metrics = createEdgeMetrics(createMetrics({ process: false }))
  const { app } = fakeEdge({ metrics })
  await app.request('/health/live')
  await app.request('/health/live')
  const response = await app.request('/metrics')
  expect(response.headers.get('content-type')).toBe(metrics.contentType)
  const text = await response.text()
  const labels = 'method="GET",route="/health/live",status="200"'
  expect(text).toContain(`turbine_http_requests_total{${labels}} 2`)
  expect(text).toContain(`turbine_http_request_duration_seconds_count{${labels}} 2`)
})
