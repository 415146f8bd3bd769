import { OpenAPIHono } from '@hono/zod-openapi'
import { methodNotAllowed } from 'hono/method-not-allowed'
import { addBatches } from './api/batches/index.ts'
import { addCaptions } from './api/captions/index.ts'
import { addReplies } from './api/captions/replies.ts'
import { addChat } from './api/chat/index.ts'
import { addDocument } from './api/document.ts'
import { addFiles } from './api/files/index.ts'
import { addHealth } from './api/health.ts'
import { addMetrics } from './api/metrics.ts'
import { addModels } from './api/models.ts'
import { addUploads } from './api/uploads/index.ts'
import type { EdgeDeps, EdgeEnv } from './deps.ts'
import { measureAccess } from './guard/access-metrics.ts'
import { admit } from './guard/admission.ts'
import { onError, onMethodNotAllowed, onNotFound } from './guard/errors.ts'
import { limitRate } from './guard/rate-limit.ts'
import { takeReadTurns } from './guard/read-turns.ts'
import { nameRequest } from './guard/request-id.ts'
import { headersOnly, neverStore } from './guard/responses.ts'
import { identifyTenant } from './guard/tenant.ts'

/**
 * The whole HTTP edge. The same app runs on Node and on Workers; everything platform-specific is in `deps`.
 *
 * @example
 * const app = createApp(deps)
 * const response = await app.request('/v1/models')
 */
export function createApp(deps: EdgeDeps): OpenAPIHono<EdgeEnv> {
  const app = new OpenAPIHono<EdgeEnv>()
  app.use(headersOnly, neverStore, nameRequest(deps.newId), measureAccess(deps))
  app.use(methodNotAllowed({ app, onMethodNotAllowed }))
  // Routes outside /v1 are public, except replies, which are signed.
  app.use('/v1/*', identifyTenant(deps), limitRate(deps), takeReadTurns())
  app.onError(onError(deps.log))
  app.notFound(onNotFound)
  addDocument(app, deps)
  // One for both: it counts the admitted requests.
  const gate = admit(deps.roomIn)
  addCaptions(app, deps, gate)
  addChat(app, deps, gate)
  addFiles(app, deps)
  addUploads(app, deps)
  addBatches(app, deps)
  addModels(app, deps)
  addHealth(app, deps)
  if (!deps.operationsApart) {
    addReplies(app, deps)
    addMetrics(app, deps)
  }
  return app
}
