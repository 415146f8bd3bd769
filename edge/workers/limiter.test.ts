import { expect, test, vi } from 'vitest'
import { defaultTenant, type Tenant } from '../contract/tenant.ts'
import { createObjectLimiter } from './limiter.ts'
import { LimiterObject } from './limiter-object.ts'
import { fakeBackground, fakeObjects } from './objects.fixture.ts'

vi.mock('cloudflare:workers', () => ({ DurableObject: class {} }))

function limiter() {
  const { objects, made } = fakeObjects(() => new LimiterObject({}, {}))
  const { background, works } = fakeBackground()
  return { limiter: createObjectLimiter({ objects, background }), made, works }
}

const tenant = (id: string, limits: Tenant['limits']): Tenant => ({ ...defaultTenant, id, limits })

test('a tenant without limits costs nothing', async () => {
  const { limiter: counted, made } = limiter()
  expect(await counted.acquire(tenant('a', { openBatches: 1 }))).toMatchObject({ granted: true })
  expect(made.size).toBe(0)
})

test('each tenant is counted apart, and what is released can be taken again', async () => {
  const { limiter: counted, works } = limiter()
  const [a, b] = [tenant('a', { inFlight: 1 }), tenant('b', { inFlight: 1 })]
  const permit = await counted.acquire(a)
  expect(await counted.acquire(b)).toMatchObject({ granted: true })
  expect(await counted.acquire(a)).toMatchObject({ granted: false, reason: 'in_flight' })
  if (permit.granted) permit.release()
  await Promise.all(works)
  expect(await counted.acquire(a)).toMatchObject({ granted: true })
})

test('rates hold, and a request that holds no place needs no release', async () => {
  const { limiter: counted, works } = limiter()
  const a = tenant('a', { requestsPerMinute: 1 })
  const permit = await counted.acquire(a)
  expect(permit).toMatchObject({ granted: true, requests: { limit: 1, remaining: 0 } })
  if (permit.granted) permit.release()
  expect(works).toHaveLength(0)
  expect(await counted.acquire(a)).toMatchObject({ granted: false, reason: 'rate' })
})
