import type { MiddlewareHandler } from 'hono'
import { retryLater } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

export interface Gate {
  /** Rejects a request before its body is read while there is no room. */
  check: MiddlewareHandler<EdgeEnv>
  /** Takes a place in the queue for a request whose body is there. */
  hold: MiddlewareHandler<EdgeEnv>
}

/**
 * Admits requests to the queue. `roomIn` gets the number of requests with a place: jobs that are still being sent are in
 * no queue yet. A body that does not arrive has none.
 * @throws TurbineError `queue_full`
 */
export function admit(roomIn: EdgeDeps['roomIn']): Gate {
  let held = 0
  const assertRoom = () => {
    const seconds = roomIn(held)
    if (seconds > 0)
      throw retryLater('queue_full', `The queue is full. Retry in ${seconds} s.`, {
        status: 429,
        retryAfterSeconds: seconds,
      })
  }
  return {
    async check(_c, next) {
      assertRoom()
      await next()
    },
    async hold(_c, next) {
      assertRoom()
      held++
      try {
        await next()
      } finally {
        held--
      }
    },
  }
}
