import fc from 'fast-check'
import { expect, test } from 'vitest'
import { TokenBucket } from './token-bucket.ts'

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
