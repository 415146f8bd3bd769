import type { Tenant } from '../contract/tenant.ts'
import type { Limiter, LimitState, Permit } from '../deps.ts'

/** `Permit` as plain data, which can be sent between processes. */
export type LimitDecision =
  | { granted: true; requests?: LimitState; lease?: number }
  | Extract<Permit, { granted: false }>

/** A request not released after this time counts as dead, ms: far longer than a response is held. */
const leaseMs = 120_000
/** Typical duration of a request, s: when one ends is not known. */
const inFlightRetrySeconds = 1

/** Without limits on requests, nothing is counted. */
export const limitsRequests = ({ requestsPerMinute, inFlight }: Tenant['limits']) =>
  requestsPerMinute !== undefined || inFlight !== undefined

/**
 * Counts one tenant's requests: a token bucket for requests per minute, and a lease per request in flight. `now` is
 * unix ms.
 *
 * @example
 * const decision = counted.acquire(tenant.limits, Date.now())
 * if (decision.granted) counted.release(decision.lease)
 */
export class TenantLimits {
  readonly #bucket = new TokenBucket()
  /** Expiry of each lease, unix ms, in order. */
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

  release(lease: number | undefined): void {
    if (lease !== undefined) this.#leases.delete(lease)
  }

  /** Based on the time, so that leases from before a restart are not reused. */
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
 * Token bucket that holds one minute's requests and fills evenly: after a pause, a burst of a minute's requests is
 * allowed.
 */
export class TokenBucket {
  /** Undefined until the first refill, which fills it. */
  #tokens: number | undefined
  #perMinute = 0
  #filledAt = 0

  /** Refills for the time since the last call. `perMinute` may change between calls; `now` is unix ms. */
  refill({ perMinute, now }: { perMinute: number; now: number }): void {
    const elapsedMs = Math.max(0, now - this.#filledAt)
    const tokens = this.#tokens === undefined ? perMinute : this.#tokens + (elapsedMs * perMinute) / minuteMs
    this.#tokens = Math.min(perMinute, tokens)
    this.#perMinute = perMinute
    // A clock set back must not count the same time twice.
    this.#filledAt = Math.max(this.#filledAt, now)
  }

  take(): boolean {
    if (this.#whole < 1) return false
    this.#tokens = this.#tokens! - 1
    return true
  }

  /** Whole seconds until the next token, at least 1. */
  secondsToNext(): number {
    return Math.max(1, Math.ceil(this.#secondsFor(1 - (this.#tokens ?? 0))))
  }

  state(): LimitState {
    return {
      limit: this.#perMinute,
      remaining: this.#whole,
      resetSeconds: this.#secondsFor(this.#perMinute - (this.#tokens ?? 0)),
    }
  }

  /** Whole tokens; in floating point three thirds only nearly add up to one. */
  get #whole(): number {
    return Math.floor((this.#tokens ?? 0) + 1e-9)
  }

  #secondsFor(tokens: number): number {
    return (tokens / this.#perMinute) * (minuteMs / 1000)
  }
}
