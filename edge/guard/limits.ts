import type { Limiter, LimitRefusal, LimitState, RequestLimits } from '../deps.ts'

/** Result of counting a request. */
export type Counted = { granted: true; requests?: LimitState } | LimitRefusal
/** Result of taking a place in flight, as plain data, which can be sent between processes. */
export type Leased = { granted: true; lease: number } | LimitRefusal

/** Typical duration of a request, s: when one ends is not known. */
const inFlightRetrySeconds = 1

export interface TenantLimitsOptions {
  /** A lease that was not renewed for this time has lost its holder, ms. Default: it lasts until it is released. */
  leaseMs?: number
}

/**
 * Counts requests: a token bucket for those per minute, and a lease for each in flight. `now` is unix ms.
 *
 * @example
 * const counted = new TenantLimits()
 * if (counted.count(limits, Date.now()).granted) {
 *   const place = counted.enter(limits, Date.now())
 *   if (place.granted) counted.release(place.lease)
 * }
 */
export class TenantLimits {
  readonly #leaseMs: number
  readonly #bucket = new TokenBucket()
  /** Expiry of each lease, unix ms, in order. */
  readonly #leases = new Map<number, number>()
  #lastLease = 0

  constructor({ leaseMs = Number.POSITIVE_INFINITY }: TenantLimitsOptions = {}) {
    this.#leaseMs = leaseMs
  }

  /** Counts a request that has found the places in flight not all taken. */
  count({ requestsPerMinute, inFlight }: Omit<RequestLimits, 'id'>, now: number): Counted {
    const bucket = requestsPerMinute === undefined ? undefined : this.#bucket
    bucket?.refill({ perMinute: requestsPerMinute!, now })
    if (this.#isFull(inFlight, now)) return { ...tooMany, requests: bucket?.state() }
    if (bucket && !bucket.take())
      return {
        granted: false,
        reason: 'rate',
        requests: bucket.state(),
        retryAfterSeconds: bucket.secondsToNext(),
      }
    return { granted: true, requests: bucket?.state() }
  }

  /** Takes a place in flight. */
  enter({ inFlight }: Pick<RequestLimits, 'inFlight'>, now: number): Leased {
    if (this.#isFull(inFlight, now)) return tooMany
    // Based on the time, so that leases from before a restart are not reused.
    this.#lastLease = Math.max(this.#lastLease + 1, now)
    this.renew(this.#lastLease, now)
    return { granted: true, lease: this.#lastLease }
  }

  /** Prolongs a lease. One that has lapsed, or is from before a restart, is back: its request still runs. */
  renew(lease: number, now: number): void {
    // Last, to keep the order.
    this.#leases.delete(lease)
    this.#leases.set(lease, now + this.#leaseMs)
  }

  release(lease: number): void {
    this.#leases.delete(lease)
  }

  #isFull(inFlight: number | undefined, now: number): boolean {
    if (inFlight === undefined) return false
    for (const [lease, end] of this.#leases) {
      if (end > now) break
      this.#leases.delete(lease)
    }
    return this.#leases.size >= inFlight
  }
}

const tooMany = { granted: false, reason: 'in_flight', retryAfterSeconds: inFlightRetrySeconds } as const

/**
 * Counts the requests of all tenants in this process.
 *
 * @example const limiter = createLimiter({ now: Date.now })
 */
export function createLimiter({ now }: { now(): number }): Limiter {
  const counts = new Map<string, TenantLimits>()
  const countOf = (id: string) => {
    const known = counts.get(id) ?? new TenantLimits()
    counts.set(id, known)
    return known
  }
  return {
    count: async (limits) => countOf(limits.id).count(limits, now()),
    async enter(limits) {
      const counted = countOf(limits.id)
      const place = counted.enter(limits, now())
      return place.granted ? { granted: true, release: () => counted.release(place.lease) } : place
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
