import type { MiddlewareHandler } from 'hono'
import { retryLater } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/**
 * Rejects a request before its body is read while there is no room. `roomIn` gets the number of requests in flight:
 * jobs that are still being sent are in no queue yet.
 * @throws TurbineError `queue_full`
 */
export function admit(roomIn: EdgeDeps['roomIn']): MiddlewareHandler<EdgeEnv> {
  let held = 0
  return async (_c, next) => {
    const seconds = roomIn(held)
    if (seconds > 0)
      throw retryLater('queue_full', `The queue is full. Retry in ${seconds} s.`, {
        status: 429,
        retryAfterSeconds: seconds,
      })
    held++
    try {
      await next()
    } finally {
      held--
    }
  }
}
