import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import { inSpan, SpanKind } from '../../infra/telemetry/tracing.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

const knownMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Measures and traces every request by its route's pattern, so that callers cannot create new time series. */
export const measureAccess =
  ({ metrics, now }: Pick<EdgeDeps, 'metrics' | 'now'>): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const start = now()
    const method = knownMethods.has(c.req.method) ? c.req.method : 'other'
    // Health checks would fill the traces.
    if (/^\/(v1|internal)\//.test(c.req.path)) {
      const parent = c.req.header('traceparent') ?? ''
      await inSpan(method, { kind: SpanKind.SERVER, parent }, async (span) => {
        await next()
        span.updateName(`${method} ${routePath(c, -1)}`)
        span.setAttributes({ 'http.request.method': method, 'http.response.status_code': c.res.status })
      })
    } else await next()
    const route = routePath(c, -1)
    metrics.observe({
      method,
      route: route.endsWith('*') ? 'unmatched' : route,
      status: c.res.status,
      seconds: Math.max(0, now() - start) / 1000,
    })
  }
