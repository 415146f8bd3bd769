import type { MiddlewareHandler } from 'hono'
import { routePath } from 'hono/route'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

const knownMethods = new Set(['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])

/** Measures every request under its route's pattern, so that no caller can make up new time series. */
export const measureAccess =
  ({ metrics, now }: Pick<EdgeDeps, 'metrics' | 'now'>): MiddlewareHandler<EdgeEnv> =>
  async (c, next) => {
    const start = now()
    await next()
    const route = routePath(c, -1)
    metrics.observe({
      method: knownMethods.has(c.req.method) ? c.req.method : 'other',
      route: route.endsWith('*') ? 'unmatched' : route,
      status: c.res.status,
      seconds: Math.max(0, now() - start) / 1000,
    })
  }
