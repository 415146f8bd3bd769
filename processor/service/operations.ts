import { OpenAPIHono } from '@hono/zod-openapi'
import { addHealth } from '../../edge/api/health.ts'
import { addMetrics } from '../../edge/api/metrics.ts'
import type { EdgeDeps, EdgeEnv } from '../../edge/deps.ts'
import { onError, onNotFound } from '../../edge/guard/errors.ts'

/** HTTP app of a process without an edge: `/health/live`, `/health/ready` and `/metrics`. */
export function operationsApp(deps: Pick<EdgeDeps, 'readiness' | 'metrics' | 'log'>): OpenAPIHono<EdgeEnv> {
  const app = new OpenAPIHono<EdgeEnv>()
  app.onError(onError(deps.log))
  app.notFound(onNotFound)
  addHealth(app, deps)
  addMetrics(app, deps)
  return app
}
