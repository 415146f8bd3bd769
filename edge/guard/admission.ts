import type { MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { Admission, EdgeEnv } from '../deps.ts'

/**
 * Turns a request away before its body is read while the queue is full. `admission` is told how many requests it
 * has let in that are not answered yet: those whose job is still on its way are in no queue that could be counted.
 * @throws TurbineError `queue_full`
 */
export function admit(admission: (held: number) => Admission): MiddlewareHandler<EdgeEnv> {
  let held = 0
  return async (_c, next) => {
    const decision = admission(held)
    if (!decision.admit) throw queueFull(decision.retryAfterSeconds)
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
