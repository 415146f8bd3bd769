import { Hono } from 'hono'
import { expect, test } from 'vitest'
import { fakeEdge, pngHeader, rawRequest } from '../app.fixture.ts'
import { TurbineError } from '../contract/errors.ts'
import type { EdgeEnv } from '../deps.ts'
import { headersOnly } from './responses.ts'

test("a caller's request id comes back", async () => {
  const { app } = fakeEdge()
  const response = await app.request('/health/live', { headers: { 'x-request-id': 'order-42' } })
  expect(response.headers.get('x-request-id')).toBe('order-42')
})

test.each(['', 'a b', '<script>', 'x'.repeat(129)])('"%s" is no request id and is replaced', async (id) => {
  const { app } = fakeEdge()
  const response = await app.request('/health/live', { headers: { 'x-request-id': id } })
  expect(response.headers.get('x-request-id')).toBe('req_1')
})

test('an error has a request id too', async () => {
  const response = await fakeEdge().app.request('/nowhere')
  expect(response.headers.get('x-request-id')).toBe('req_1')
})

test('an unknown address is 404 in the shape of errors', async () => {
  const response = await fakeEdge().app.request('/v1/nothing')
  expect(response.status).toBe(404)
  expect(await response.json()).toMatchObject({
    error: { code: 'route_not_found', type: 'not_found_error', param: null },
  })
})

test.each([
  ['DELETE', '/v1/captions', 'POST'],
  ['PUT', '/v1/captions/cap_1', 'GET, HEAD'],
  ['POST', '/v1/models', 'GET, HEAD'],
])('%s %s is 405 and names what is allowed', async (method, path, allowed) => {
  const response = await fakeEdge().app.request(path, { method })
  expect(response.status).toBe(405)
  expect(response.headers.get('allow')).toBe(allowed)
  expect(await response.json()).toMatchObject({ error: { code: 'method_not_allowed' } })
})

test('HEAD is answered where GET is', async () => {
  expect((await fakeEdge().app.request('/health/live', { method: 'HEAD' })).status).toBe(200)
})

test('an unforeseen error is 500, is logged whole and tells the caller nothing but the request id', async () => {
  const secret = new Error('password hunter2 refused')
  const edge = fakeEdge({ readiness: () => Promise.reject(secret) })
  const response = await edge.app.request('/health/ready', { headers: { 'x-request-id': 'order-42' } })
  expect(response.status).toBe(500)
  const body = await response.text()
  expect(body).toContain('internal_error')
  expect(body).toContain('order-42')
  expect(body).not.toContain('hunter2')
  expect(edge.logged).toEqual([
    {
      level: 'error',
      message: 'GET /health/ready failed',
      fields: { err: secret, code: 'internal_error', requestId: 'order-42', path: '/health/ready' },
    },
  ])
})

test("a caller's mistakes are not logged", async () => {
  const edge = fakeEdge()
  await edge.app.request('/nowhere')
  await edge.app.request('/v1/captions', rawRequest('text'))
  expect(edge.logged).toEqual([])
})

test('a typed error keeps its words and says when to come back', async () => {
  const error = new TurbineError('Warming up.', { status: 503, code: 'warming_up', retryAfterSeconds: 3 })
  const edge = fakeEdge({ readiness: () => Promise.reject(error) })
  const response = await edge.app.request('/health/ready')
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('3')
  expect(await response.json()).toEqual(error.toBody())
})

test('requests are measured by the pattern of their route', async () => {
  let time = 0
  const edge = fakeEdge({ now: () => (time += 250) })
  await edge.app.request('/v1/captions/cap_1')
  await edge.app.request('/v1/models/starter')
  await edge.app.request('/no/such/thing')
  await edge.app.request('/v1/captions', { method: 'BREW' })
  await edge.app.request('/v1/captions', rawRequest(pngHeader()))
  const seen = edge.samples.map(({ method, route, status }) => `${method} ${route} ${status}`)
  expect(seen).toEqual([
    'GET /v1/captions/:id 404',
    'GET /v1/models/:id{.+} 200',
    'GET unmatched 404',
    'other unmatched 405',
    'POST /v1/captions 200',
  ])
  expect(edge.samples[0]!.seconds).toBe(0.25)
})

test('no cache stores what a tenant was told', async () => {
  const { app } = fakeEdge()
  for (const path of ['/v1/models', '/v1/files', '/v1/files/file-none', '/v1/nothing']) {
    const response = await app.request(path)
    expect(response.headers.get('cache-control')).toBe('no-store')
  }
})

test('the body of a response to HEAD is ended', async () => {
  const app = new Hono<EdgeEnv>().use(headersOnly)
  let ended = false
  const cancel = () => {
    ended = true
  }
  app.get('/stream', (c) => c.body(new ReadableStream({ cancel }), 200, { 'content-length': '7' }))
  const response = await app.request('/stream', { method: 'HEAD' })
  expect(ended).toBe(true)
  expect(response.headers.get('content-length')).toBe('7')
  expect(await response.text()).toBe('')
})
