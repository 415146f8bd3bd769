import fc from 'fast-check'
import { encodeBase64 } from 'hono/utils/encode'
import { expect, test } from 'vitest'
import { imageFaults } from '../../../infra/fetch/faults.ts'
import { errorOf, fakeEdge, jsonRequest, pngHeader, post, rawRequest } from '../../app.fixture.ts'
import { maxBodyBytes } from '../../contract/caption.ts'

const png = pngHeader()
const dataUrl = `data:image/png;base64,${encodeBase64(png.buffer)}`

const text = (value: string) => new TextEncoder().encode(value)
const json = (value: unknown) => ({ init: jsonRequest(value) })
const raw = (query: string) => ({ init: rawRequest(png), query })
const typed = (type: string) => ({ init: rawRequest(png, { 'content-type': type }) })

const refusals: [
  name: string,
  request: { init: RequestInit; query?: string },
  status: number,
  code: string,
  param: string | null,
  message?: RegExp,
][] = [
  ['an empty body', { init: rawRequest('') }, 400, 'image_invalid', null],
  ['no body at all', { init: { method: 'POST' } }, 400, 'image_invalid', null],
  ['text as an image', { init: rawRequest(text('hello')) }, 415, 'image_invalid', null, /JPEG, PNG/],
  [
    '400 megapixels',
    { init: rawRequest(pngHeader(20_000, 20_000)) },
    413,
    'image_too_large',
    null,
    /250.*TURBINE_MAX_PIXELS/,
  ],
  ['a form', typed('application/x-www-form-urlencoded'), 415, 'content_type_unsupported', 'content-type'],
  ['a video', typed('video/mp4'), 415, 'content_type_unsupported', 'content-type', /video\/mp4/],
  ['a body of no type', typed(''), 415, 'content_type_unsupported', 'content-type', /missing/],
  ['max_prune above 1', raw('?max_prune=1.5'), 400, 'invalid_value', 'max_prune', /from 0 to 1, got "1.5"/],
  ['max_prune in words', raw('?max_prune=lots'), 400, 'invalid_type', 'max_prune', /from 0 to 1/],
  ['max_prune of nothing', raw('?max_prune='), 400, 'invalid_type', 'max_prune'],
  ['max_prune twice', raw('?max_prune=0&max_prune=1'), 400, 'invalid_type', 'max_prune'],
  ['a deadline of 0', raw('?deadline_ms=0'), 400, 'invalid_value', 'deadline_ms', /from 1 to 86400000/],
  ['an unknown parameter', raw('?prune=1'), 400, 'unknown_parameter', 'prune', /max_prune, deadline_ms/],
  ['an unknown model', raw('?model=other'), 404, 'model_not_found', 'model', /Served: starter/],
  ['JSON that is none', json('{"image_url":'), 400, 'invalid_json', null],
  ['empty JSON', json(''), 400, 'invalid_json', null],
  ['JSON of another shape', json([1]), 400, 'invalid_type', null],
  ['no image_url', json({}), 400, 'missing_required_parameter', 'image_url'],
  ['an unknown field', json({ image_url: dataUrl, size: 1 }), 400, 'unknown_parameter', 'size'],
  ['an unknown model in JSON', json({ image_url: dataUrl, model: 'x' }), 404, 'model_not_found', 'model'],
  ['a wrong type', json({ image_url: 1 }), 400, 'invalid_type', 'image_url'],
  [
    'max_prune below 0 in JSON',
    json({ image_url: dataUrl, turbine: { max_prune: -1 } }),
    400,
    'invalid_value',
    'turbine.max_prune',
    /from 0 to 1, got -1/,
  ],
  ['options beside JSON', { ...json({ image_url: dataUrl }), query: '?a=1' }, 400, 'unknown_parameter', 'a'],
  ['a bad data URL', json({ image_url: 'data:image/png;base64,*' }), 400, 'image_url_invalid', 'image_url'],
  ['an empty data URL', json({ image_url: 'data:image/png;base64,' }), 400, 'image_invalid', 'image_url'],
  ['a data URL of text', json({ image_url: 'data:;base64,aGVsbG8=' }), 415, 'image_invalid', 'image_url'],
  ['an ftp address', json({ image_url: 'ftp://example.com/a' }), 400, 'image_url_invalid', 'image_url'],
  ['a path', json({ image_url: '/etc/passwd' }), 400, 'image_url_invalid', 'image_url'],
]

test.each(refusals)('%s is refused', async (_name, { init, query }, status, code, param, message = /\w/) => {
  const edge = fakeEdge()
  const response = await post(edge, init, query)
  const error = await errorOf(response)
  expect([response.status, error.code, error.param]).toEqual([status, code, param])
  expect(error.message).toMatch(message)
  expect(edge.sent).toEqual([])
})

test.each([
  ['asks for less', imageFaults.badStatus({ status: 429, host: 'a.com', afterMs: 7000 }), 429, '7'],
  ['is overloaded', imageFaults.badStatus({ status: 503, host: 'a.com' }), 503, '1'],
  ['does not answer', imageFaults.timedOut(10), 503, '5'],
  ['refuses connections', imageFaults.unreachable({ code: 'ECONNREFUSED' }), 503, '5'],
])('a host of an image that %s is one to ask again later', async (_, fault, status, retryAfter) => {
  const edge = fakeEdge({ images: () => Promise.reject(fault) })
  const response = await post(edge, jsonRequest({ image_url: 'https://example.com/a.png' }))
  expect([response.status, response.headers.get('retry-after')]).toEqual([status, retryAfter])
  expect(await errorOf(response)).toMatchObject({ code: fault.code, param: 'image_url' })
})

test.each([imageFaults.refused(), imageFaults.tooLarge(10), imageFaults.webPage()])(
  'an address that fails with $code is the fault of the request',
  async (fault) => {
    const { code } = fault
    const edge = fakeEdge({ images: () => Promise.reject(fault) })
    const response = await post(edge, jsonRequest({ image_url: 'https://example.com/a.png' }))
    expect(response.status).toBe(400)
    expect(await response.json()).toMatchObject({
      error: { code, param: 'image_url', message: fault.message },
    })
  },
)

test('null is left out, as in a chat', async () => {
  const edge = fakeEdge()
  const nothing = { model: null, prompt: null, max_tokens: null, stop: null, turbine: null }
  expect((await post(edge, jsonRequest({ image_url: dataUrl, ...nothing }))).status).toBe(200)
  expect(edge.sent).toHaveLength(1)
})

test('the size of an image is limited by the settings, in a body and behind an address', async () => {
  const edge = fakeEdge({ imageLimits: { maxPixels: 63, maxDecodeBytes: 1e9 }, images: async () => png })
  const inBody = await post(edge, rawRequest(png))
  const atAddress = await post(edge, jsonRequest({ image_url: 'https://example.com/a.png' }))
  for (const response of [inBody, atAddress])
    expect(await errorOf(response)).toMatchObject({ code: 'image_too_large' })
})

test('a body that announces too many bytes is refused unread', async () => {
  let pulled = 0
  const body = new ReadableStream({ pull: () => void pulled++ }, { highWaterMark: 0 })
  const headers = { 'content-length': String(maxBodyBytes + 1) }
  const init = { ...rawRequest(body, headers), duplex: 'half' } as RequestInit
  const response = await post(fakeEdge(), init)
  expect(response.status).toBe(413)
  expect(await response.json()).toMatchObject({ error: { code: 'body_too_large' } })
  expect(pulled).toBe(0)
})

test('a body without a length is read no further than the limit', async () => {
  const chunk = new Uint8Array(1024 * 1024)
  let pulled = 0
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        pulled++
        controller.enqueue(chunk)
      },
    },
    { highWaterMark: 0 },
  )
  const response = await post(fakeEdge(), { ...rawRequest(body), duplex: 'half' } as RequestInit)
  expect(response.status).toBe(413)
  expect(pulled).toBe(maxBodyBytes / chunk.length + 1)
})

test('a body that breaks off is named so', async () => {
  const body = new ReadableStream({ start: (controller) => controller.error(new Error('reset')) })
  const headers = { 'content-length': '10' }
  const response = await post(fakeEdge(), { ...rawRequest(body, headers), duplex: 'half' } as RequestInit)
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ error: { code: 'body_incomplete' } })
})

const contentType = fc.constantFrom(
  'image/png',
  'application/json',
  'application/octet-stream',
  'text/plain',
  '',
)
const signature = fc.constantFrom(
  [],
  [0xff, 0xd8, 0xff],
  [0x49, 0x49, 0x2a, 0x00],
  [...png.subarray(0, 16)],
  [...text('\0\0\0\u0018ftypavif')],
  [...text('RIFF....WEBPVP8X')],
  [...text('GIF89a')],
)

test('no bytes whatever give a server error', async () => {
  const edge = fakeEdge()
  await fc.assert(
    fc.asyncProperty(contentType, signature, fc.uint8Array({ maxLength: 300 }), async (type, head, tail) => {
      const init = rawRequest(new Uint8Array([...head, ...tail]), { 'content-type': type })
      expect((await post(edge, init)).status).toBeLessThan(500)
    }),
    { numRuns: 300 },
  )
})

const almostRequest = fc.record(
  {
    image_url: fc.oneof(fc.constant(dataUrl), fc.string(), fc.webUrl(), fc.jsonValue()),
    model: fc.oneof(fc.constant('starter'), fc.jsonValue()),
    prompt: fc.oneof(fc.string({ unit: 'binary' }), fc.jsonValue()),
    turbine: fc.oneof(
      fc.record({ max_prune: fc.double(), deadline_ms: fc.integer() }, { requiredKeys: [] }),
      fc.jsonValue(),
    ),
  },
  { requiredKeys: [] },
)

test('no JSON whatever gives a server error', async () => {
  const edge = fakeEdge()
  await fc.assert(
    fc.asyncProperty(fc.oneof(fc.jsonValue(), almostRequest), async (value) => {
      expect((await post(edge, jsonRequest(value))).status).toBeLessThan(500)
    }),
    { numRuns: 300 },
  )
})

test('no query whatever gives a server error', async () => {
  const edge = fakeEdge()
  const name = fc.oneof(fc.constantFrom('model', 'prompt', 'max_prune', 'deadline_ms'), fc.string())
  await fc.assert(
    fc.asyncProperty(fc.array(fc.tuple(name, fc.string())), async (pairs) => {
      const response = await post(edge, rawRequest(png), `?${new URLSearchParams(pairs)}`)
      expect(response.status).toBeLessThan(500)
    }),
  )
})

test('JSON nested without end is refused', async () => {
  const deep = `{"image_url":${'['.repeat(100_000)}${']'.repeat(100_000)}}`
  expect((await post(fakeEdge(), jsonRequest(deep))).status).toBe(400)
})
