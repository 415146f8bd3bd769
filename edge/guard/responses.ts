import type { Context, MiddlewareHandler } from 'hono'
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

/** Gives back what a request holds: at once, or when its response is written that has begun. */
export async function whenAnswered(c: Context<EdgeEnv>, release: () => unknown): Promise<void> {
  const writing = c.get('writing')
  if (writing) void writing.then(release)
  else await release()
}
