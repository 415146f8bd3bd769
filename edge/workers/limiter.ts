import type { Tenant } from '../contract/tenant.ts'
import type { Limiter } from '../deps.ts'
import { type LimitDecision, limitsRequests } from '../guard/limits.ts'
import type { Background, ObjectNamespace } from './objects.ts'

/** What the limiter object of a tenant can be asked. */
export interface LimiterCalls {
  acquire(limits: Tenant['limits']): Promise<LimitDecision>
  release(lease: number): Promise<void>
}

export interface ObjectLimiterOptions {
  objects: ObjectNamespace<LimiterCalls>
  background: Background
}

/** Counts each tenant's requests in a Durable Object, over all places of the edge. */
export function createObjectLimiter({ objects, background }: ObjectLimiterOptions): Limiter {
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
          // The answer need not wait for it; a release that is lost ends with its lease.
          if (lease !== undefined) background(object.release(lease).catch(() => undefined))
        },
      }
    },
  }
}
