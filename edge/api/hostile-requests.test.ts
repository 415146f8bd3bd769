import fc from 'fast-check'
import { expect, test } from 'vitest'
import { fakeEdge } from '../app.fixture.ts'

const long = 'Z'.repeat(5000)
const json = { 'content-type': 'application/json' }
const post = (body: unknown, headers: Record<string, string> = json): RequestInit => ({
  method: 'POST',
  headers,
  body: typeof body === 'string' ? body : JSON.stringify(body),
})
const batch = { input_file_id: 'file-1', endpoint: '/v1/captions', completion_window: '24h' }
const upload = { bytes: 1, filename: 'a', mime_type: 'b', purpose: 'batch' }
const chat = (content: unknown) => ({ messages: [{ role: 'user', content }] })

test.each<[string, string, RequestInit?]>([
  ['a path', `/v1/${long}`],
  ['another method', `/v1/files/${long}`, { method: 'PATCH' }],
  ['an id of a caption', `/v1/captions/${long}`],
  ['an id of a file', `/v1/files/${long}/content`],
  ['an id of a batch', `/v1/batches/${long}/cancel`, { method: 'POST' }],
  ['an id of an upload', `/v1/uploads/${long}/cancel`, { method: 'POST' }],
  ['an id of a model', `/v1/models/${long}`],
  ['a parameter', `/v1/files?${long}=1`],
  ['a value of the query', `/v1/batches?after=${long}`],
  ['a value of a number', `/v1/batches?limit=${long}`],
  ['a parameter of an image', `/v1/captions?${long}=1`, post('x', { 'content-type': 'image/png' })],
  ['a parameter of JSON', `/v1/captions?${long}=1`, post({})],
  ['a content type', '/v1/captions', post('x', { 'content-type': long })],
  ['the content type of a form', '/v1/files', post('x', { 'content-type': long })],
  ['a boundary', '/v1/files', post('x', { 'content-type': `multipart/form-data; boundary=${long}` })],
  ['an idempotency key', '/v1/uploads', post(upload, { ...json, 'idempotency-key': long })],
  ['a field', '/v1/captions', post({ [long]: 1 })],
  ['fields', '/v1/captions', post(Object.fromEntries([1, 2, 3].map((each) => [`${long}${each}`, 1])))],
  ['a field in a field', '/v1/captions', post({ image_url: 'x', turbine: { [long]: { [long]: 1 } } })],
  ['an address', '/v1/captions', post({ image_url: long })],
  ['an address of S3', '/v1/captions', post({ image_url: `s3://bucket/${long}` })],
  ['a data URL', '/v1/captions', post({ image_url: `data:${long}` })],
  ['a media type', '/v1/captions', post({ image_url: `data:${long.slice(0, 200)};base64,AAAA` })],
  ['a prompt', '/v1/captions', post({ image_url: 'data:', prompt: long })],
  ['a model', '/v1/captions', post({ image_url: 'data:', model: long.slice(0, 256) })],
  ['a role', '/v1/chat/completions', post({ messages: [{ role: long }] })],
  ['a content', '/v1/chat/completions', post(chat([{ type: long, [long]: long }]))],
  ['a window', '/v1/batches', post({ ...batch, completion_window: long })],
  ['a short window', '/v1/batches', post({ ...batch, completion_window: 'Z\u0000'.repeat(19) })],
  ['a file', '/v1/batches', post({ ...batch, input_file_id: long.slice(0, 200) })],
  ['an endpoint', '/v1/batches', post({ ...batch, endpoint: long })],
  ['metadata', '/v1/batches', post({ ...batch, metadata: { [long]: 1 } })],
  ['values of metadata', '/v1/batches', post({ ...batch, metadata: { a: long } })],
  ['an URI', '/v1/batches', post({ ...batch, turbine: { input_uri: `s3://${long}` } })],
  ['parts', '/v1/uploads/upload_1/complete', post({ part_ids: [long] })],
  ['an MD5', '/v1/uploads/upload_1/complete', post({ part_ids: ['a'], md5: long })],
  ['a name of a file', '/v1/uploads', post({ ...upload, filename: long })],
])('an error repeats at most 200 characters of %s', async (_, path, init) => {
  const response = await fakeEdge().app.request(path, init)
  expect(response.status).toBeGreaterThanOrEqual(400)
  expect(response.status).toBeLessThan(500)
  const text = JSON.stringify([await response.json(), ...response.headers])
  expect([...text].filter((each) => each === 'Z').length).toBeLessThanOrEqual(200)
})

test('any query is answered or refused', async () => {
  const { app } = fakeEdge()
  const name = fc.constantFrom(
    'after',
    'limit',
    'order',
    'purpose',
    'model',
    'max_prune',
    '__proto__',
    'a[b]',
  )
  const value = fc.oneof(fc.string(), fc.constantFrom('1', '-0', '1e999', 'NaN', '0x10', '%', '%ff', 'desc'))
  const query = fc.oneof(
    fc.array(fc.tuple(name, value)).map((pairs) => pairs.map((pair) => pair.join('=')).join('&')),
    fc.webQueryParameters(),
  )
  const route = fc.constantFrom('/v1/files', '/v1/batches', '/v1/models', '/v1/captions', '/health/ready')
  await fc.assert(
    fc.asyncProperty(route, query, fc.boolean(), async (path, search, isPost) => {
      const init = isPost ? post('x', { 'content-type': 'image/png' }) : {}
      const response = await app.request(new Request(new URL(`${path}?${search}`, 'http://localhost'), init))
      expect(response.status).toBeLessThan(500)
    }),
    { numRuns: 300 },
  )
})

test('any JSON is answered or refused by every route that takes it', async () => {
  const { app } = fakeEdge()
  const requests = fc.constantFrom<object>(batch, upload, chat('hi'), { image_url: 'data:;base64,AAAA' })
  const names = ['input_file_id', 'metadata', 'turbine', 'messages', 'content', 'image_url', 'n', '__proto__']
  const damaged = fc
    .tuple(requests, fc.constantFrom(...names), fc.jsonValue())
    .map(([request, name, value]) => JSON.stringify({ ...request, [name]: value }))
  const body = fc.oneof(damaged, fc.json(), fc.string({ unit: 'binary' }))
  const route = fc.constantFrom(
    '/v1/captions',
    '/v1/chat/completions',
    '/v1/batches',
    '/v1/uploads',
    '/v1/uploads/upload_1/complete',
  )
  await fc.assert(
    fc.asyncProperty(route, body, async (path, text) => {
      expect((await app.request(path, post(text))).status).toBeLessThan(500)
    }),
    { numRuns: 300 },
  )
})
