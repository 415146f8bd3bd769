import { DurableObject } from 'cloudflare:workers'
import type { Tenant } from '../contract/tenant.ts'
import { type LimitDecision, TenantLimits } from '../guard/limits.ts'
import type { LimiterCalls } from './limiter.ts'

/** Counts one tenant's requests. The count is lost on eviction, which needs seconds without a request. */
export class LimiterObject extends DurableObject<unknown> implements LimiterCalls {
  readonly #counted = new TenantLimits()

  async acquire(limits: Tenant['limits']): Promise<LimitDecision> {
    return this.#counted.acquire(limits, Date.now())
  }

  async release(lease: number): Promise<void> {
    this.#counted.release(lease)
  }
}
