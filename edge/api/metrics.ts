import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

const getMetrics = createRoute({
  method: 'get',
  path: '/metrics',
  operationId: 'metrics',
  tags: ['operation'],
  summary: 'Everything that is measured, for Prometheus',
  responses: {
    200: { description: 'The text format of Prometheus.', content: { 'text/plain': { schema: z.string() } } },
  },
})

/** `GET /metrics`. */
export function addMetrics(app: OpenAPIHono<EdgeEnv>, { metrics }: Pick<EdgeDeps, 'metrics'>): void {
  app.openapi(getMetrics, async (c) =>
    c.text(await metrics.render(), 200, { 'Content-Type': metrics.contentType }),
  )
}
