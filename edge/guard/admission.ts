import type { MiddlewareHandler } from 'hono'
import { retryLater } from '../contract/errors.ts'
import type { EdgeDeps, EdgeEnv } from '../deps.ts'
import { whenAnswered } from './responses.ts'

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
  const heldBy = new Map<string, number>()
  const assertRoom = (tenant: string) => {
    const seconds = roomIn(held, { id: tenant, held: heldBy.get(tenant) ?? 0 })
    if (seconds > 0)
      throw retryLater('queue_full', `The queue is full. Retry in ${seconds} s.`, {
        status: 429,
        retryAfterSeconds: seconds,
      })
  }
  const change = (tenant: string, by: 1 | -1) => {
    held += by
    const left = (heldBy.get(tenant) ?? 0) + by
    if (left > 0) heldBy.set(tenant, left)
    else heldBy.delete(tenant)
  }
  return {
    async check(c, next) {
      assertRoom(c.get('tenant').id)
      await next()
    },
    async hold(c, next) {
      const { id } = c.get('tenant')
      assertRoom(id)
      change(id, 1)
      try {
        await next()
      } finally {
        await whenAnswered(c, () => change(id, -1))
      }
    },
  }
}

/** Places of a tenant for each one that it leaves to others. */
const placesPerFreeOne = 9

/**
 * Whether a tenant with `own` of the `taken` places of a queue may have another one. Together with all others it leaves
 * some, so that a tenant that has none yet finds one, however many take what they can get.
 */
export const hasPlace = ({ limit, taken, own }: { limit: number; taken: number; own: number }): boolean =>
  taken < limit && own <= placesPerFreeOne * (limit - taken)
