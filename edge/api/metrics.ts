import { type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { operation } from './responses.ts'

const getMetrics = operation('get', '/metrics', 'metrics', {
  summary: 'All metrics, for Prometheus',
  responses: {
    200: { description: "Prometheus' text format.", content: { 'text/plain': { schema: z.string() } } },
  },
})

/** `GET /metrics`. */
export function addMetrics(app: OpenAPIHono<EdgeEnv>, { metrics }: Pick<EdgeDeps, 'metrics'>): void {
  app.openapi(getMetrics, async (c) =>
    c.text(await metrics.render(), 200, { 'Content-Type': metrics.contentType }),
  )
}
