import { type OpenAPIHono, z } from '@hono/zod-openapi'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { jsonResponse, operation } from './responses.ts'

const readinessSchema = z
  .object({
    ready: z.boolean(),
    checks: z.record(z.string(), z.object({ ok: z.boolean(), message: z.string().optional() })),
  })
  .openapi('Readiness')

const live = operation('get', '/health/live', 'live', {
  summary: 'Liveness: the process responds',
  responses: {
    200: jsonResponse('The process is alive.', z.object({ status: z.literal('ok') }), { status: 'ok' }),
  },
})

const ready = operation('get', '/health/ready', 'ready', {
  summary: 'Readiness: the process accepts requests',
  responses: {
    200: jsonResponse('Ready.', readinessSchema, { ready: true, checks: { model: { ok: true } } }),
    503: jsonResponse('Not ready; the checks give the reason.', readinessSchema, {
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
