import type { Metrics } from '../infra/telemetry/metrics.ts'
import type { EdgeMetrics } from './deps.ts'

/** The edge's own metrics, among all that the process measures and renders at `/metrics`. */
export function createEdgeMetrics(metrics: Metrics): EdgeMetrics {
  const labelNames = ['method', 'route', 'status'] as const
  const requests = metrics.counter({
    name: 'http_requests_total',
    help: 'Requests answered.',
    labelNames,
  })
  const duration = metrics.histogram({
    name: 'http_request_duration_seconds',
    help: 'From the head of the request to the answer, waiting for the caption included.',
    labelNames,
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25],
  })
  return {
    observe({ method, route, status, seconds }) {
      const labels = { method, route, status: String(status) }
      requests.inc(labels)
      duration.observe(labels, seconds)
    },
    render: metrics.render,
    contentType: metrics.contentType,
  }
}
