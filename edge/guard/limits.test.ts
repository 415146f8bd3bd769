import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Tenant } from '../contract/tenant.ts'
import { createLimiter, type LimitDecision, TenantLimits, TokenBucket } from './limits.ts'

const start = 1_790_000_000_000
const granted = (decision: LimitDecision) => {
  if (!decision.granted) throw new Error(`refused: ${decision.reason}`)
  return decision
}

test('as many requests run at a time as may', () => {
  const counted = new TenantLimits()
  const [first] = [1, 2].map(() => granted(counted.acquire({ inFlight: 2 }, start)))
  expect(counted.acquire({ inFlight: 2 }, start)).toEqual({
    granted: false,
    reason: 'in_flight',
    requests: undefined,
    retryAfterSeconds: 1,
  })
  counted.release(first!.lease)
  granted(counted.acquire({ inFlight: 2 }, start))
})

test('what is released twice makes one place', () => {
  const counted = new TenantLimits()
  const { lease } = granted(counted.acquire({ inFlight: 1 }, start))
  counted.release(lease)
  granted(counted.acquire({ inFlight: 1 }, start))
  counted.release(lease)
  expect(counted.acquire({ inFlight: 1 }, start).granted).toBe(false)
})

test('a lease that nobody releases ends after two minutes', () => {
  const counted = new TenantLimits()
  counted.acquire({ inFlight: 1 }, start)
  expect(counted.acquire({ inFlight: 1 }, start + 119_999).granted).toBe(false)
  expect(counted.acquire({ inFlight: 1 }, start + 120_000).granted).toBe(true)
})

test('a lease from before a restart releases none of those after it', () => {
  const before = granted(new TenantLimits().acquire({ inFlight: 1 }, start)).lease
  const counted = new TenantLimits()
  counted.acquire({ inFlight: 1 }, start + 1)
  counted.release(before)
  expect(counted.acquire({ inFlight: 1 }, start + 2).granted).toBe(false)
})

test('a request that is refused takes nothing', () => {
  const counted = new TenantLimits()
  const limits = { requestsPerMinute: 2, inFlight: 1 }
  const { lease } = granted(counted.acquire(limits, start))
  expect(counted.acquire(limits, start)).toMatchObject({ reason: 'in_flight', requests: { remaining: 1 } })
  counted.release(lease)
  counted.release(granted(counted.acquire(limits, start)).lease)
  expect(counted.acquire(limits, start)).toMatchObject({ reason: 'rate', retryAfterSeconds: 30 })
  expect(counted.acquire({ inFlight: 1 }, start).granted).toBe(true)
})

test('never more run than may, however they come and go', () => {
  const step = fc.oneof(fc.constant('acquire' as const), fc.constant('release' as const))
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 100 }), (inFlight, steps) => {
      const counted = new TenantLimits()
      const running: (number | undefined)[] = []
      for (const [index, action] of steps.entries()) {
        if (action === 'release') {
          if (running.length > 0) counted.release(running.shift())
          continue
        }
        const decision = counted.acquire({ inFlight }, start + index)
        expect(decision.granted).toBe(running.length < inFlight)
        if (decision.granted) running.push(decision.lease)
      }
    }),
  )
})

test('each tenant has its own limits, and one without any is not counted', async () => {
  const limiter = createLimiter({ now: () => start })
  const tenant = (id: string, limits: Tenant['limits']): Tenant => ({ id, grants: [], limits })
  const one = { requestsPerMinute: 1 }
  expect(await limiter.acquire(tenant('a', one))).toMatchObject({
    granted: true,
    requests: { limit: 1, remaining: 0, resetSeconds: 60 },
  })
  expect(await limiter.acquire(tenant('a', one))).toMatchObject({ granted: false, reason: 'rate' })
  expect(await limiter.acquire(tenant('b', one))).toMatchObject({ granted: true })
  for (let count = 0; count < 3; count++)
    expect(await limiter.acquire(tenant('c', { openBatches: 1 }))).toEqual({
      granted: true,
      release: expect.any(Function),
    })
})

test('a permit gives its place back', async () => {
  const limiter = createLimiter({ now: () => start })
  const tenant: Tenant = { id: 'a', grants: [], limits: { inFlight: 1 } }
  const permit = await limiter.acquire(tenant)
  expect((await limiter.acquire(tenant)).granted).toBe(false)
  if (permit.granted) permit.release()
  expect((await limiter.acquire(tenant)).granted).toBe(true)
})

const minuteMs = 60_000

/** Offers one request at each time and returns the times of those that were let pass. */
function passed(perMinute: number, times: number[]): number[] {
  const bucket = new TokenBucket()
  return times.filter((now) => {
    bucket.refill({ perMinute, now })
    const took = bucket.take()
    const { remaining, resetSeconds } = bucket.state()
    expect(remaining).toBeGreaterThanOrEqual(0)
    expect(remaining).toBeLessThanOrEqual(perMinute)
    expect(resetSeconds).toBeGreaterThanOrEqual(0)
    expect(resetSeconds).toBeLessThanOrEqual(minuteMs / 1000)
    return took
  })
}

const arrivals = fc.record({
  perMinute: fc.integer({ min: 1, max: 200 }),
  gaps: fc.array(fc.integer({ min: 0, max: 3_000 }), { minLength: 1, maxLength: 400 }),
})

const timesOf = (gaps: number[]) => {
  let time = 1_790_000_000_000
  return gaps.map((gap) => {
    time += gap
    return time
  })
}

test('in no stretch of time do more pass than a full bucket and what flows in meanwhile', () => {
  fc.assert(
    fc.property(arrivals, ({ perMinute, gaps }) => {
      const times = passed(perMinute, timesOf(gaps))
      for (let first = 0; first < times.length; first++)
        for (let last = first; last < times.length; last++) {
          const flowed = ((times[last]! - times[first]!) * perMinute) / minuteMs
          expect(last - first + 1).toBeLessThanOrEqual(perMinute + flowed + 1e-6)
        }
    }),
    { numRuns: 50 },
  )
})

test('nobody is refused who stays at the rate', () => {
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 200 }), (perMinute) => {
      const times = Array.from({ length: 3 * perMinute }, (_, index) => (index * minuteMs) / perMinute)
      expect(passed(perMinute, times)).toHaveLength(times.length)
    }),
    { numRuns: 30 },
  )
})

test('a refused request passes after the time that it was told', () => {
  fc.assert(
    fc.property(arrivals, ({ perMinute, gaps }) => {
      const bucket = new TokenBucket()
      for (const now of timesOf(gaps)) {
        bucket.refill({ perMinute, now })
        if (bucket.take()) continue
        bucket.refill({ perMinute, now: now + bucket.secondsToNext() * 1000 })
        expect(bucket.take()).toBe(true)
        return
      }
    }),
  )
})

test('a clock that is set back brings no tokens', () => {
  const start = 1_790_000_000_000
  expect(passed(1, [start, start - 3_600_000, start + 1, start - 1, start + 30_000])).toEqual([start])
  expect(passed(1, [start, start - 3_600_000, start + minuteMs])).toEqual([start, start + minuteMs])
})

test('a limit that is lowered or raised holds at once', () => {
  const bucket = new TokenBucket()
  bucket.refill({ perMinute: 100, now: 0 })
  bucket.refill({ perMinute: 2, now: 0 })
  expect(bucket.state()).toMatchObject({ limit: 2, remaining: 2 })
  bucket.refill({ perMinute: 60, now: 1000 })
  expect(bucket.state()).toMatchObject({ limit: 60, remaining: 3, resetSeconds: 57 })
})
