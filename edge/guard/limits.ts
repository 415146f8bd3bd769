import type { Tenant } from '../contract/tenant.ts'
import type { Limiter, LimitState } from '../deps.ts'

/** Whether a request may run. Plain data, so that it can come from another process. */
export type LimitDecision =
  | { granted: true; requests?: LimitState; lease?: number }
  | { granted: false; reason: 'rate' | 'in_flight'; requests?: LimitState; retryAfterSeconds: number }

/** A request that nobody releases is taken for dead after this long, ms: far longer than a caller is held. */
const leaseMs = 120_000
/** When a place may be free again is not known; requests are answered in about this long, s. */
const inFlightRetrySeconds = 1

/** Whether any of a tenant's limits is on requests; where none is, nothing has to be counted. */
export const limitsRequests = ({ requestsPerMinute, inFlight }: Tenant['limits']) =>
  requestsPerMinute !== undefined || inFlight !== undefined

/**
 * Counts one tenant's requests: a bucket of as many tokens as it may send requests in a minute, and a lease for each
 * request that runs. The clock is passed in: `now` is unix ms.
 *
 * @example
 * const decision = counted.acquire(tenant.limits, Date.now())
 * if (decision.granted) counted.release(decision.lease)
 */
export class TenantLimits {
  readonly #bucket = new TokenBucket()
  /** When each lease ends, unix ms, in the order in which they were given. */
  readonly #leases = new Map<number, number>()
  #lastLease = 0

  acquire({ requestsPerMinute, inFlight }: Tenant['limits'], now: number): LimitDecision {
    this.#endLeases(now)
    const bucket = requestsPerMinute === undefined ? undefined : this.#bucket
    bucket?.refill({ perMinute: requestsPerMinute!, now })
    if (inFlight !== undefined && this.#leases.size >= inFlight)
      return {
        granted: false,
        reason: 'in_flight',
        requests: bucket?.state(),
        retryAfterSeconds: inFlightRetrySeconds,
      }
    if (bucket && !bucket.take())
      return {
        granted: false,
        reason: 'rate',
        requests: bucket.state(),
        retryAfterSeconds: bucket.secondsToNext(),
      }
    return {
      granted: true,
      requests: bucket?.state(),
      lease: inFlight === undefined ? undefined : this.#lease(now),
    }
  }

  /** A request that was granted is answered. */
  release(lease: number | undefined): void {
    if (lease !== undefined) this.#leases.delete(lease)
  }

  /** Named by the time, so that a lease from before a restart is none of those after it. */
  #lease(now: number): number {
    this.#lastLease = Math.max(this.#lastLease + 1, now)
    this.#leases.set(this.#lastLease, now + leaseMs)
    return this.#lastLease
  }

  #endLeases(now: number): void {
    for (const [lease, end] of this.#leases) if (end <= now) this.#leases.delete(lease)
  }
}

/**
 * Counts the requests of all tenants in this process.
 *
 * @example const limiter = createLimiter({ now: Date.now })
 */
export function createLimiter({ now }: { now(): number }): Limiter {
  const tenants = new Map<string, TenantLimits>()
  return {
    async acquire({ id, limits }) {
      if (!limitsRequests(limits)) return { granted: true, release: () => {} }
      const counted = tenants.get(id) ?? new TenantLimits()
      tenants.set(id, counted)
      const decision = counted.acquire(limits, now())
      return decision.granted ? { ...decision, release: () => counted.release(decision.lease) } : decision
    },
  }
}

const minuteMs = 60_000

/**
 * A token bucket: it holds at most as many tokens as requests are allowed in a minute, fills evenly, and each request
 * takes one. So after a rest a minute's worth may come at once, and over any longer time the rate holds.
 */
export class TokenBucket {
  /** Undefined until the first refill fills it to the brim. */
  #tokens: number | undefined
  #perMinute = 0
  #filledAt = 0

  /** Adds what the time since the last call brought. `perMinute` may change between calls; `now` is unix ms. */
  refill({ perMinute, now }: { perMinute: number; now: number }): void {
    const elapsedMs = Math.max(0, now - this.#filledAt)
    const tokens = this.#tokens === undefined ? perMinute : this.#tokens + (elapsedMs * perMinute) / minuteMs
    this.#tokens = Math.min(perMinute, tokens)
    this.#perMinute = perMinute
    // A clock that was set back must not make the same time count twice.
    this.#filledAt = Math.max(this.#filledAt, now)
  }

  /** Takes a token, if there is one. */
  take(): boolean {
    if (this.#whole < 1) return false
    this.#tokens = this.#tokens! - 1
    return true
  }

  /** Whole seconds until there is a token, at least 1. */
  secondsToNext(): number {
    return Math.max(1, Math.ceil(this.#secondsFor(1 - (this.#tokens ?? 0))))
  }

  /** Of the last refill. */
  state(): LimitState {
    return {
      limit: this.#perMinute,
      remaining: this.#whole,
      resetSeconds: this.#secondsFor(this.#perMinute - (this.#tokens ?? 0)),
    }
  }

  /** Tokens that can be taken. Thirds of a token do not add up to one in floating point, but nearly. */
  get #whole(): number {
    return Math.floor((this.#tokens ?? 0) + 1e-9)
  }

  #secondsFor(tokens: number): number {
    return (tokens / this.#perMinute) * (minuteMs / 1000)
  }
}
