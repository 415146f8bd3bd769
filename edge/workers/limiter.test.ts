import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { RequestLimits } from '../deps.ts'
import { createObjectLimiter, leaseMs } from './limiter.ts'
import { LimiterObject } from './limiter-object.ts'
import { fakeBackground, fakeObjects } from './objects.fixture.ts'

vi.mock('cloudflare:workers', () => ({ DurableObject: class {} }))

function limiter() {
  const { objects, made } = fakeObjects(() => new LimiterObject({}, {}))
  const { background, works } = fakeBackground()
  return { limiter: createObjectLimiter({ objects, background }), made, works }
}

beforeEach(() => void vi.useFakeTimers())
afterEach(() => void vi.useRealTimers())

test('each name is counted apart, and what is released can be taken again', async () => {
  const { limiter: counted, works } = limiter()
  const [a, b] = ['a', 'b'].map((id) => ({ id, inFlight: 1 })) as [RequestLimits, RequestLimits]
  const place = await counted.enter(a)
  expect(await counted.enter(b)).toMatchObject({ granted: true })
  expect(await counted.enter(a)).toMatchObject({ granted: false, reason: 'in_flight' })
  expect(await counted.count(a)).toMatchObject({ granted: false, reason: 'in_flight' })
  if (place.granted) place.release()
  await Promise.all(works)
  expect(await counted.enter(a)).toMatchObject({ granted: true })
})

test('rates hold', async () => {
  const { limiter: counted, works } = limiter()
  const a = { id: 'a', requestsPerMinute: 1 }
  expect(await counted.count(a)).toMatchObject({ granted: true, requests: { limit: 1, remaining: 0 } })
  expect(works).toHaveLength(0)
  expect(await counted.count(a)).toMatchObject({ granted: false, reason: 'rate' })
})

test('a place lasts as long as its request runs', async () => {
  const { limiter: counted, works } = limiter()
  const a = { id: 'a', inFlight: 1 }
  const place = await counted.enter(a)
  await vi.advanceTimersByTimeAsync(3_600_000)
  expect(await counted.enter(a)).toMatchObject({ granted: false })
  if (place.granted) place.release()
  await Promise.all(works)
  expect(vi.getTimerCount()).toBe(0)
  expect(await counted.enter(a)).toMatchObject({ granted: true })
})

test('the place of an edge that is gone lapses', async () => {
  const object = new LimiterObject({}, {})
  await object.enter({ inFlight: 1 })
  await vi.advanceTimersByTimeAsync(leaseMs - 1)
  expect(await object.count({ inFlight: 1 })).toMatchObject({ granted: false })
  await vi.advanceTimersByTimeAsync(1)
  expect(await object.count({ inFlight: 1 })).toMatchObject({ granted: true })
})
