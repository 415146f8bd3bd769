import type { MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'

/**
 * Rejects a request before its body is read while there is no room for it. `roomIn` is told how many requests are let
 * in and not answered yet: those whose job is still on its way are in no queue that could be counted.
 * @throws TurbineError `queue_full`
 */
export function admit(roomIn: EdgeDeps['roomIn']): MiddlewareHandler<EdgeEnv> {
  let held = 0
  return async (_c, next) => {
    const seconds = roomIn(held)
    if (seconds > 0) throw queueFull(seconds)
    held++
    try {
      await next()
    } finally {
      held--
    }
  }
}

const queueFull = (retryAfterSeconds: number) =>
  new TurbineError(`The queue is full. Send the request again in ${retryAfterSeconds} s.`, {
    status: 429,
    code: 'queue_full',
    retryAfterSeconds,
  })
