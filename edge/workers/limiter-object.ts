import { DurableObject } from 'cloudflare:workers'
import type { RequestLimits } from '../deps.ts'
import { type Counted, type Leased, TenantLimits } from '../guard/limits.ts'
import { type LimiterCalls, leaseMs } from './limiter.ts'

/** Counts requests that are counted together. The count is lost on eviction, which needs seconds without a request. */
export class LimiterObject extends DurableObject<unknown> implements LimiterCalls {
  readonly #counted = new TenantLimits({ leaseMs })

  async count(limits: Omit<RequestLimits, 'id'>): Promise<Counted> {
    return this.#counted.count(limits, Date.now())
  }

  async enter(limits: Omit<RequestLimits, 'id'>): Promise<Leased> {
    return this.#counted.enter(limits, Date.now())
  }

  async renew(lease: number): Promise<void> {
    this.#counted.renew(lease, Date.now())
  }

  async release(lease: number): Promise<void> {
    this.#counted.release(lease)
  }
}
