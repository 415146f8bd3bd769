import type { MiddlewareHandler } from 'hono'
import { FairBudget } from '../../infra/fair-budget.ts'
import type { EdgeEnv } from '../deps.ts'

/** Reads that are worked on at a time, and of one tenant. */
const reads = { size: 64, perOwner: 32 }

/**
 * Lets tenants' reads take turns, so that a thousand of one do not go ahead of the next of another. A turn ends with the
 * head of the response: nobody waits for a slow reader.
 */
export function takeReadTurns(options = reads): MiddlewareHandler<EdgeEnv> {
  const turns = new FairBudget(options)
  return async (c, next) => {
    if (c.req.method !== 'GET' && c.req.method !== 'HEAD') return next()
    await turns.run(c.get('tenant').id, () => next(), { signal: c.req.raw.signal })
  }
}
