import { encodeBase64 } from 'hono/utils/encode'
import { expect, test } from 'vitest'
import { StoreUnavailableError } from '../../../infra/store/store.ts'
import { StreamUnavailableError } from '../../../infra/stream/stream.ts'
import {
  completed,
  emptyMailbox,
  errorOf,
  failed,
  fakeEdge,
  jsonRequest,
  mailboxWith,
  pngHeader,
  post,
  rawRequest,
} from '../../app.fixture.ts'
import { decodeJob } from '../../contract/job.ts'

const png = pngHeader()
const dataUrl = `data:image/png;base64,${encodeBase64(png.buffer)}`
const jobOf = (edge: ReturnType<typeof fakeEdge>) => decodeJob(edge.sent[0]!.record)

test.each(['image/png', 'IMAGE/PNG; charset=binary', 'application/octet-stream'])(
  'raw bytes with %s are captioned',
  async (type) => {
    const edge = fakeEdge()
    const response = await post(edge, rawRequest(png, { 'content-type': type }))
    expect(response.status).toBe(200)
    expect(await response.json()).toEqual(completed('cap_2'))
    expect(jobOf(edge)).toMatchObject({ image: png, model: 'starter', maxPrune: 1, replyTo: 'test:cap_2' })
  },
)

test('options of a raw image come from the query', async () => {
  const edge = fakeEdge()
  const query = '?max_prune=0.25&deadline_ms=300&model=starter&prompt=a%20photo%20of'
  const response = await post(edge, rawRequest(png), query)
  expect(response.status).toBe(200)
  expect(jobOf(edge)).toMatchObject({
    maxPrune: 0.25,
    request: { beginning: 'a photo of' },
    deadline: 1_790_000_000_300,
  })
  expect(edge.waits).toEqual([300])
})

test('JSON with a data URL is captioned', async () => {
  const edge = fakeEdge()
  const turbine = { max_prune: 0, deadline_ms: 100 }
  const response = await post(edge, jsonRequest({ image_url: dataUrl, prompt: 'a', turbine }))
  expect(response.status).toBe(200)
  expect(jobOf(edge)).toMatchObject({
    image: png,
    maxPrune: 0,
    request: { beginning: 'a' },
    deadline: 1_790_000_000_100,
  })
})

test('JSON with an address is fetched', async () => {
  const calls: unknown[] = []
  const edge = fakeEdge({
    images: async (url) => {
      calls.push(url)
      return png
    },
  })
  const response = await post(edge, jsonRequest({ image_url: 'https://example.com/a.png' }))
  expect(response.status).toBe(200)
  expect(calls).toEqual(['https://example.com/a.png'])
  expect(jobOf(edge).image).toEqual(png)
})

test('a caller who was turned away is told when to come back', async () => {
  const overloaded = (id: string) => ({ ...failed(id), http_status: 429, retry_after: 7 })
  const response = await post(fakeEdge({ mailbox: mailboxWith(overloaded) }), rawRequest(png))
  expect(response.status).toBe(429)
  expect(response.headers.get('retry-after')).toBe('7')
})

test('a caption that failed is answered with its own status and error', async () => {
  const response = await post(fakeEdge({ mailbox: mailboxWith(failed) }), rawRequest(png))
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ error: { code: 'image_invalid' } })
})

test('past the deadline the answer is an address that has the result later', async () => {
  const edge = fakeEdge({ mailbox: emptyMailbox })
  const response = await post(edge, rawRequest(png), '?deadline_ms=1')
  expect(response.status).toBe(202)
  expect(response.headers.get('location')).toBe('/v1/captions/cap_2')
  expect(response.headers.get('retry-after')).toBe('1')
  expect(response.headers.has('preference-applied')).toBe(false)

  const early = await edge.app.request('/v1/captions/cap_2')
  expect(early.status).toBe(202)
  expect(await early.json()).toMatchObject({ id: 'cap_2', status: 'queued' })

  await edge.deps.store.put('captions/default/cap_2.json', JSON.stringify(completed('cap_2')))
  const late = await edge.app.request('/v1/captions/cap_2')
  expect(late.status).toBe(200)
  expect(await late.json()).toEqual(completed('cap_2'))
})

test.each(['respond-async', 'wait=5, Respond-Async'])('Prefer: %s is answered at once', async (prefer) => {
  const edge = fakeEdge()
  const response = await post(edge, rawRequest(png, { prefer }))
  expect(response.status).toBe(202)
  expect(response.headers.get('preference-applied')).toBe('respond-async')
  expect(edge.waits).toEqual([])
})

test('another preference is no wish for an address', async () => {
  expect((await post(fakeEdge(), rawRequest(png, { prefer: 'return=minimal' }))).status).toBe(200)
})

test('a caller who went away gets no answer and no mark', async () => {
  const caller = new AbortController()
  const edge = fakeEdge({
    mailbox: {
      deliver: () => false,
      show: () => 'unwanted',
      open: () => ({ replyTo: 'test:1', wait: async () => void caller.abort(), close: () => {} }),
    },
  })
  const response = await post(edge, { ...rawRequest(png), signal: caller.signal })
  expect(response.status).toBe(499)
  expect(edge.objects.size).toBe(0)
})

test('a caller who went away while the image was fetched is no failure of the service', async () => {
  const caller = new AbortController()
  const edge = fakeEdge({
    images: async (_url, { signal }) => {
      caller.abort()
      signal.throwIfAborted()
      return png
    },
  })
  const request = jsonRequest({ image_url: 'https://example.com/a.png' })
  const response = await post(edge, { ...request, signal: caller.signal })
  expect(response.status).toBe(499)
  expect(edge.logged).toEqual([])
})

test('a failure is found under its address too', async () => {
  const edge = fakeEdge()
  await edge.deps.store.put('captions/default/cap_1.json', JSON.stringify(failed('cap_1')))
  const response = await edge.app.request('/v1/captions/cap_1')
  expect(response.status).toBe(400)
  expect(await response.json()).toMatchObject({ error: { code: 'image_invalid' } })
})

test.each(['cap_unknown', '..', '%2e%2e%2fother', 'a%00b', 'x'.repeat(2000)])(
  'there is no caption %s',
  async (id) => {
    const edge = fakeEdge()
    const asked: string[] = []
    edge.deps.store.get = async (key) => void asked.push(key)
    const response = await edge.app.request(`/v1/captions/${id}`)
    expect(response.status).toBe(404)
    expect(asked).toEqual(id === 'cap_unknown' ? ['captions/default/cap_unknown.json'] : [])
  },
)

test('a valid trace parent travels with the job, another does not', async () => {
  const edge = fakeEdge()
  const traceparent = `00-${'a'.repeat(32)}-${'b'.repeat(16)}-01`
  await post(edge, rawRequest(png, { traceparent }))
  await post(edge, rawRequest(png, { traceparent: 'x\ty' }))
  expect(edge.sent.map(({ record }) => record.headers.traceparent)).toEqual([traceparent, undefined])
})

test('a full queue is answered with 429 before the body is read', async () => {
  const edge = fakeEdge({ roomIn: () => 7 })
  const response = await post(edge, rawRequest('not even an image'))
  expect(response.status).toBe(429)
  expect(response.headers.get('retry-after')).toBe('7')
  expect(await response.json()).toMatchObject({ error: { code: 'queue_full', type: 'rate_limit_error' } })
})

test('a burst is turned away although none of it is in the stream yet', async () => {
  const sent = Promise.withResolvers<void>()
  const edge = fakeEdge({ roomIn: (held) => (held < 2 ? 0 : 1), stream: { send: () => sent.promise } })
  const ask = () => post(edge, rawRequest(png, { prefer: 'respond-async' }))
  const taken = [ask(), ask()]
  expect((await ask()).status).toBe(429)
  sent.resolve()
  for (const response of await Promise.all(taken)) expect(response.status).toBe(202)
  expect((await ask()).status).toBe(202)
})

test('a stream that is away is answered with 503', async () => {
  const send = () => Promise.reject(new StreamUnavailableError('disk full'))
  const edge = fakeEdge({ stream: { send } })
  const response = await post(edge, rawRequest(png))
  expect(response.status).toBe(503)
  expect(response.headers.get('retry-after')).toBe('1')
  const error = await errorOf(response)
  expect(error.code).toBe('stream_unavailable')
  expect(error.message).not.toContain('disk full')
  expect(edge.logged).toHaveLength(1)
})

test('a store that is away is answered with 503', async () => {
  const edge = fakeEdge()
  edge.deps.store.get = () => Promise.reject(new StoreUnavailableError('no route'))
  const response = await edge.app.request('/v1/captions/cap_1')
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ error: { code: 'store_unavailable' } })
})

test('no model yet is answered with 503', async () => {
  const response = await post(fakeEdge({ models: () => [] }), rawRequest(png))
  expect(response.status).toBe(503)
  expect(await response.json()).toMatchObject({ error: { code: 'model_not_ready' } })
})
