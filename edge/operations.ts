import { OpenAPIHono } from '@hono/zod-openapi'
import { addReplies } from './api/captions/replies.ts'
import { addHealth } from './api/health.ts'
import { addMetrics } from './api/metrics.ts'
import type { EdgeDeps, EdgeEnv } from './deps.ts'
import { onError, onNotFound } from './guard/errors.ts'

/** Dependencies of the operations app; with those of `addReplies` it takes processors' replies. */
export type OperationsDeps = Pick<EdgeDeps, 'readiness' | 'metrics' | 'log'> &
  Partial<Pick<EdgeDeps, 'mailbox' | 'now' | 'replySecret' | 'bodies'>>

/**
 * HTTP app for the operator and for the other parts of a fleet, not for callers: `/health/live`, `/health/ready`,
 * `/metrics`, and at an edge processors' replies.
 */
export function operationsApp(deps: OperationsDeps): OpenAPIHono<EdgeEnv> {
  const { mailbox, now, replySecret, bodies } = deps
  const app = new OpenAPIHono<EdgeEnv>()
  app.onError(onError(deps.log))
  app.notFound(onNotFound)
  addHealth(app, deps)
  addMetrics(app, deps)
  if (mailbox && now && bodies) addReplies(app, { mailbox, now, replySecret, bodies })
  return app
}
