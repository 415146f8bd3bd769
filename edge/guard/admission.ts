import type { MiddlewareHandler } from 'hono'
import { TurbineError } from '../contract/errors.ts'
import type { Admission, EdgeEnv } from '../deps.ts'

/**
 * Turns a request away before its body is read while the queue is full.
 * @throws TurbineError `queue_full`
 */
export const admit =
  (admission: () => Admission): MiddlewareHandler<EdgeEnv> =>
  async (_c, next) => {
    const decision = admission()
    if (decision.admit) return next()
    const { retryAfterSeconds } = decision
    throw new TurbineError(`The queue is full. Send the request again in ${retryAfterSeconds} s.`, {
      status: 429,
      code: 'queue_full',
      retryAfterSeconds,
    })
  }
