import { expect, test } from 'vitest'
import { errorOf, fakeEdge, pngHeader, post, rawRequest } from '../app.fixture.ts'
import { decodeJob } from '../contract/job.ts'
import { defaultTenant, type Tenant } from '../contract/tenant.ts'
import type { Accounts } from '../deps.ts'

const acme: Tenant = { id: 'acme', grants: [], limits: {} }
const withKeys: Accounts = {
  configured: async () => true,
  tenantOfKey: async (key) => (key === 'sk-acme' ? acme : undefined),
  knows: (key) => key === 'sk-acme',
  defaultTenant: async () => defaultTenant,
}
const guarded = () => fakeEdge({ accounts: withKeys })
const open = ['/', '/openapi.json', '/health/live', '/health/ready', '/metrics']

test.each<Record<string, string>>([
  { authorization: 'Bearer sk-acme' },
  { authorization: 'bearer  sk-acme' },
  { 'x-api-key': 'sk-acme' },
])('work is its tenant’s, by %j', async (headers) => {
  const edge = guarded()
  expect((await post(edge, rawRequest(pngHeader(), { ...headers }))).status).toBe(200)
  expect(decodeJob(edge.sent[0]!.record).tenant).toBe('acme')
})

test.each([
  [{}, 'missing_api_key'],
  [{ authorization: 'Basic c2stYWNtZQ==' }, 'missing_api_key'],
  [{ authorization: 'Bearer ' }, 'missing_api_key'],
  [{ authorization: 'Bearer sk-other' }, 'invalid_api_key'],
  [{ 'x-api-key': 'sk-other' }, 'invalid_api_key'],
])('%j is 401 %s, in the shape of errors', async (headers, code) => {
  const edge = guarded()
  const response = await post(edge, rawRequest(pngHeader(), { ...headers }))
  expect(response.status).toBe(401)
  expect(response.headers.get('www-authenticate')).toBe('Bearer realm="turbine"')
  expect(await errorOf(response)).toMatchObject({ code, type: 'invalid_request_error', param: null })
  expect(edge.sent).toEqual([])
})

test.each([...open, '/v1/nothing'])('without keys, and on this machine, %s is answered', async (path) => {
  expect([200, 404]).toContain((await fakeEdge().app.request(`http://127.0.0.1:8787${path}`)).status)
})

test.each(open)('%s takes no key', async (path) => {
  expect((await guarded().app.request(`https://captions.example.com${path}`)).status).toBe(200)
})

test.each(['/v1/models', '/v1/captions/cap_1', '/v1', '/v1/nothing', '/%761/models'])(
  '%s takes a key',
  async (path) => {
    expect((await guarded().app.request(path)).status).toBe(401)
  },
)

test('another method tells nobody without a key what there is', async () => {
  expect((await guarded().app.request('/v1/captions', { method: 'DELETE' })).status).toBe(401)
})

test('where no keys exist any key will do on this machine', async () => {
  const edge = fakeEdge()
  const request = rawRequest(pngHeader(), { authorization: 'Bearer sk-whatever' })
  expect((await post(edge, request)).status).toBe(200)
  expect(decodeJob(edge.sent[0]!.record).tenant).toBe('default')
})

test.each([
  ['http://captions.example.com/v1/models', {}],
  ['http://192.168.1.2:8787/v1/models', {}],
  ['http://localhost/v1/models', { origin: 'https://example.com' }],
])('where no keys exist %s with %j is 403, with the remedy', async (url, headers) => {
  const response = await fakeEdge().app.request(url, { headers: { ...headers } })
  expect(response.status).toBe(403)
  expect(await errorOf(response)).toMatchObject({
    code: 'keys_required',
    message: expect.stringContaining('npx turbine keys create'),
  })
})

test('what another tenant made is not there', async () => {
  const edge = guarded()
  await edge.deps.store.put('captions/other/cap_1.json', '{}')
  const response = await edge.app.request('/v1/captions/cap_1', { headers: { 'x-api-key': 'sk-acme' } })
  expect(response.status).toBe(404)
})

test('an address that sends wrong keys is heard with known ones only, until a while has passed', async () => {
  let now = 1_790_000_000_000
  let lookups = 0
  const tenantOfKey: Accounts['tenantOfKey'] = (key) => {
    lookups++
    return withKeys.tenantOfKey(key)
  }
  const edge = fakeEdge({ accounts: { ...withKeys, tenantOfKey }, now: () => now })
  const ask = (key: string, address: string) =>
    edge.app.request('/v1/models', { headers: { 'x-api-key': key } }, { address })
  const guess = async (address: string) => (await ask(`sk-${crypto.randomUUID()}`, address)).status
  const guesses: number[] = []
  for (let count = 0; count < 70; count++) guesses.push(await guess('192.0.2.1'))
  expect(guesses).toEqual([...Array(60).fill(401), ...Array(10).fill(429)])
  expect(lookups).toBe(60)
  const refused = await ask('sk-other', '192.0.2.1')
  expect(refused.headers.get('retry-after')).toBe('1')
  expect(await errorOf(refused)).toMatchObject({ code: 'too_many_wrong_keys', type: 'rate_limit_error' })
  expect((await ask('sk-acme', '192.0.2.1')).status).toBe(200)
  expect(await guess('192.0.2.2')).toBe(401)
  now += 1_000
  expect(await guess('192.0.2.1')).toBe(401)
})
