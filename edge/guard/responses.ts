import type { MiddlewareHandler } from 'hono'
import type { EdgeEnv } from '../deps.ts'

/** Ends the body of a response to HEAD, which nobody reads: it may hold a connection or a file. */
export const headersOnly: MiddlewareHandler<EdgeEnv> = async (c, next) => {
  await next()
  if (c.req.method === 'HEAD') await c.res.body?.cancel()
}

/** Keeps caches from storing what a tenant was told. */
export const neverStore: MiddlewareHandler<EdgeEnv> = async (c, next) => {
  // Before the response: Hono copies one whose headers are set later.
  c.header('Cache-Control', 'no-store')
  await next()
}
