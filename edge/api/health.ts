import { createRoute, type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { jsonResponse } from './responses.ts'

const readinessSchema = z
  .object({
    ready: z.boolean(),
    checks: z.record(z.string(), z.object({ ok: z.boolean(), message: z.string().optional() })),
  })
  .openapi('Readiness')

const live = createRoute({
  method: 'get',
  path: '/health/live',
  operationId: 'live',
  tags: ['operation'],
  summary: 'Whether the process answers at all',
  responses: {
    200: jsonResponse('It does.', z.object({ status: z.literal('ok') }), { status: 'ok' }),
  },
})

const ready = createRoute({
  method: 'get',
  path: '/health/ready',
  operationId: 'ready',
  tags: ['operation'],
  summary: 'Whether requests should be sent here',
  responses: {
    200: jsonResponse('They should.', readinessSchema, { ready: true, checks: { model: { ok: true } } }),
    503: jsonResponse('Not now; the checks say why.', readinessSchema, {
      ready: false,
      checks: { model: { ok: false, message: 'warming up' } },
    }),
  },
})

/** `GET /health/live` and `GET /health/ready`. */
export function addHealth(app: OpenAPIHono<EdgeEnv>, { readiness }: Pick<EdgeDeps, 'readiness'>): void {
  app.openapi(live, (c) => c.json({ status: 'ok' as const }, 200))
  app.openapi(ready, async (c) => {
    const state = await readiness()
    return c.json(state, state.ready ? 200 : 503)
  })
}
