import type { Tenant } from '../contract/tenant.ts'
import type { Limiter } from '../deps.ts'
import { type LimitDecision, limitsRequests } from '../guard/limits.ts'
import type { Background, ObjectNamespace } from './objects.ts'

/** Calls of a tenant's limiter object. */
export interface LimiterCalls {
  acquire(limits: Tenant['limits']): Promise<LimitDecision>
  release(lease: number): Promise<void>
}

/** Counts each tenant's requests in a Durable Object, over all locations of the edge. */
export function createObjectLimiter({
  objects,
  background,
}: {
  objects: ObjectNamespace<LimiterCalls>
  background: Background
}): Limiter {
  return {
    async acquire({ id, limits }) {
      if (!limitsRequests(limits)) return { granted: true, release: () => {} }
      const object = objects.getByName(id)
      const decision = await object.acquire(limits)
      if (!decision.granted) return decision
      const { lease, requests } = decision
      return {
        granted: true,
        requests,
        release() {
          // The response does not wait for it; after a lost release the lease expires.
          if (lease !== undefined) background(object.release(lease).catch(() => undefined))
        },
      }
    },
  }
}
