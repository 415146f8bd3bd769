import type { Metrics } from '../infra/telemetry/metrics.ts'
import type { EdgeMetrics } from './deps.ts'

/** HTTP metrics of the edge, among all metrics that the process renders at `/metrics`. */
export function createEdgeMetrics(metrics: Metrics): EdgeMetrics {
  const labelNames = ['method', 'route', 'status'] as const
  const requests = metrics.counter({
    name: 'http_requests_total',
    help: 'HTTP requests completed.',
    labelNames,
  })
  const duration = metrics.histogram({
    name: 'http_request_duration_seconds',
    help: 'Time from the request to the response, including the wait for the caption.',
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
