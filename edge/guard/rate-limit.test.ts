import { expect, test } from 'vitest'
import { errorOf, fakeEdge, pngHeader, rawRequest } from '../app.fixture.ts'
import type { Tenant } from '../contract/tenant.ts'
import type { Limiter } from '../deps.ts'
import { createLimiter } from './limits.ts'
import { formatReset } from './rate-limit.ts'

const start = 1_790_000_000_000

function limitedEdge(limits: Tenant['limits'], overrides: Parameters<typeof fakeEdge>[0] = {}) {
  const edge = fakeEdge({
    accounts: {
      configured: async () => false,
      tenantOfKey: async () => undefined,
      knows: () => false,
      defaultTenant: async () => ({ id: 'default', grants: [], limits }),
    },
    limiter: createLimiter({ now: () => start }),
    ...overrides,
  })
  const ask = (init = rawRequest(pngHeader())) => edge.app.request('/v1/captions', init)
  return { ...edge, ask }
}

const rateHeaders = ({ headers }: Response) =>
  ['limit', 'remaining', 'reset'].map((name) => headers.get(`x-ratelimit-${name}-requests`))

test("every answer says in OpenAI's headers what is left, and 429 when to come back", async () => {
  const { ask, sent } = limitedEdge({ requestsPerMinute: 2 })
  expect(rateHeaders(await ask())).toEqual(['2', '1', '30s'])
  expect(rateHeaders(await ask(rawRequest('text')))).toEqual(['2', '0', '1m0s'])
  const refused = await ask()
  expect(refused.status).toBe(429)
  expect(rateHeaders(refused)).toEqual(['2', '0', '1m0s'])
  expect(refused.headers.get('retry-after')).toBe('30')
  expect(await errorOf(refused)).toMatchObject({ code: 'rate_limit_exceeded', type: 'rate_limit_error' })
  expect(sent).toHaveLength(1)
})

test('reads are counted apart, ten for each request', async () => {
  const { app, ask } = limitedEdge({ requestsPerMinute: 1 })
  expect((await ask()).status).toBe(200)
  const statuses: number[] = []
  for (let count = 0; count < 12; count++)
    statuses.push((await app.request('/v1/models', { method: count % 2 ? 'HEAD' : 'GET' })).status)
  expect(statuses).toEqual([...Array(10).fill(200), 429, 429])
  expect(rateHeaders(await app.request('/v1/models'))).toEqual(['10', '0', '1m0s'])
})

test('polling has places of its own', async () => {
  const stored = Promise.withResolvers<void>()
  const { app, ask } = limitedEdge({ inFlight: 1 }, { stream: { send: () => stored.promise } })
  const first = ask()
  expect((await ask()).status).toBe(429)
  expect((await app.request('/v1/models')).status).toBe(200)
  stored.resolve()
  expect((await first).status).toBe(200)
})

test('requests in flight are counted until they are answered, also when they fail', async () => {
  const stored = Promise.withResolvers<void>()
  const { ask } = limitedEdge({ inFlight: 1 }, { stream: { send: () => stored.promise } })
  const first = ask()
  const refused = await ask()
  expect(refused.status).toBe(429)
  expect(refused.headers.get('retry-after')).toBe('1')
  expect(rateHeaders(refused)).toEqual([null, null, null])
  expect(await errorOf(refused)).toMatchObject({ code: 'too_many_in_flight' })
  stored.reject(new Error('refused'))
  expect((await first).status).toBe(500)
  expect((await ask()).status).not.toBe(429)
})

test('a tenant without limits on requests costs the limiter nothing', async () => {
  let asked = 0
  const limiter: Limiter = {
    count: async () => {
      asked++
      return { granted: true }
    },
    enter: async () => {
      asked++
      return { granted: true, release: () => {} }
    },
  }
  const { ask } = limitedEdge({ openBatches: 1 }, { limiter })
  const response = await ask()
  expect(response.status).toBe(200)
  expect(rateHeaders(response)).toEqual([null, null, null])
  expect(asked).toBe(0)
})

test('a limiter that is out of reach lets requests pass, and is logged', async () => {
  const gone = new Error('gone')
  const counts: Limiter = createLimiter({ now: () => start })
  const limiters: Limiter[] = [
    { ...counts, count: () => Promise.reject(gone) },
    { ...counts, enter: () => Promise.reject(gone) },
    { ...counts, enter: async () => ({ granted: true, release: () => Promise.reject(gone) }) },
  ]
  for (const limiter of limiters) {
    const away = limitedEdge({ inFlight: 1 }, { limiter })
    expect((await away.ask()).status).toBe(200)
    expect(away.logged).toMatchObject([{ level: 'warn', fields: { err: gone } }])
  }
})

test.each([
  [0, '0s'],
  [0.2, '1s'],
  [59.1, '1m0s'],
  [59, '59s'],
  [360, '6m0s'],
])('%s s are written as %s', (seconds, text) => {
  expect(formatReset(seconds)).toBe(text)
})
