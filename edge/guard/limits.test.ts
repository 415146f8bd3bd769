import fc from 'fast-check'
import { expect, test } from 'vitest'
import { createLimiter, TenantLimits, TokenBucket } from './limits.ts'

const start = 1_790_000_000_000
function entered(counted: TenantLimits, inFlight: number, now = start) {
  const place = counted.enter({ inFlight }, now)
  if (!place.granted) throw new Error(`refused: ${place.reason}`)
  return place.lease
}

test('as many requests run at a time as may', () => {
  const counted = new TenantLimits()
  const [first] = [1, 2].map(() => entered(counted, 2))
  const refused = { granted: false, reason: 'in_flight', retryAfterSeconds: 1 }
  expect(counted.enter({ inFlight: 2 }, start)).toEqual(refused)
  expect(counted.count({ inFlight: 2 }, start)).toEqual(refused)
  counted.release(first!)
  entered(counted, 2)
})

test('a request that is counted takes no place yet', () => {
  const counted = new TenantLimits()
  for (let count = 0; count < 3; count++) expect(counted.count({ inFlight: 1 }, start).granted).toBe(true)
  entered(counted, 1)
})

test('what is released twice makes one place', () => {
  const counted = new TenantLimits()
  const lease = entered(counted, 1)
  counted.release(lease)
  entered(counted, 1)
  counted.release(lease)
  expect(counted.enter({ inFlight: 1 }, start).granted).toBe(false)
})

test('a lease lasts as long as it is renewed, and ends when nobody does', () => {
  const counted = new TenantLimits({ leaseMs: 120_000 })
  const lease = entered(counted, 2)
  entered(counted, 2, start + 1)
  const full = (ms: number) => !counted.count({ inFlight: 2 }, start + ms).granted
  for (let ms = 30_000; ms <= 600_000; ms += 30_000) counted.renew(lease, start + ms)
  expect(full(600_000)).toBe(false)
  entered(counted, 2, start + 600_000)
  expect(full(719_999)).toBe(true)
  expect(full(720_000)).toBe(false)
})

test('a renewed lease is back after a restart', () => {
  const counted = new TenantLimits({ leaseMs: 120_000 })
  counted.renew(entered(new TenantLimits(), 1), start + 1)
  expect(counted.enter({ inFlight: 1 }, start + 2).granted).toBe(false)
})

test('in one process a place lasts until it is released', () => {
  const counted = new TenantLimits()
  entered(counted, 1)
  expect(counted.enter({ inFlight: 1 }, start + 86_400_000).granted).toBe(false)
})

test('a lease from before a restart releases none of those after it', () => {
  const before = entered(new TenantLimits(), 1)
  const counted = new TenantLimits()
  entered(counted, 1, start + 1)
  counted.release(before)
  expect(counted.enter({ inFlight: 1 }, start + 2).granted).toBe(false)
})

test('a request that is refused takes nothing', () => {
  const counted = new TenantLimits()
  const limits = { requestsPerMinute: 2, inFlight: 1 }
  counted.count(limits, start)
  const lease = entered(counted, 1)
  expect(counted.count(limits, start)).toMatchObject({ reason: 'in_flight', requests: { remaining: 1 } })
  counted.release(lease)
  expect(counted.count(limits, start).granted).toBe(true)
  expect(counted.count(limits, start)).toMatchObject({ reason: 'rate', retryAfterSeconds: 30 })
  expect(counted.count({ inFlight: 1 }, start).granted).toBe(true)
})

test('never more run than may, however they come and go', () => {
  const step = fc.oneof(fc.constant('enter' as const), fc.constant('release' as const))
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 5 }), fc.array(step, { maxLength: 100 }), (inFlight, steps) => {
      const counted = new TenantLimits()
      const running: number[] = []
      for (const [index, action] of steps.entries()) {
        if (action === 'release') {
          if (running.length > 0) counted.release(running.shift()!)
          continue
        }
        const place = counted.enter({ inFlight }, start + index)
        expect(place.granted).toBe(running.length < inFlight)
        if (place.granted) running.push(place.lease)
      }
    }),
  )
})

test('each name has its own count', async () => {
  const limiter = createLimiter({ now: () => start })
  const ask = (id: string) => limiter.count({ id, requestsPerMinute: 1 })
  expect(await ask('a')).toEqual({
    granted: true,
    requests: { limit: 1, remaining: 0, resetSeconds: 60 },
  })
  expect(await ask('a')).toMatchObject({ granted: false, reason: 'rate' })
  expect(await ask('b')).toMatchObject({ granted: true })
})

test('a place is given back', async () => {
  const limiter = createLimiter({ now: () => start })
  const place = await limiter.enter({ id: 'a', inFlight: 1 })
  expect((await limiter.enter({ id: 'a', inFlight: 1 })).granted).toBe(false)
  if (place.granted) place.release()
  expect((await limiter.enter({ id: 'a', inFlight: 1 })).granted).toBe(true)
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
