import { randomUUID } from 'node:crypto'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { imageFaults } from '../../infra/fetch/faults.ts'
import { getJson } from '../../infra/store/store.ts'
import { StreamUnavailableError } from '../../infra/stream/stream.ts'
import {
  completed,
  emptyMailbox,
  errorOf,
  failed,
  fakeEdge,
  jsonRequest,
  pngHeader,
  post,
  rawRequest,
} from '../app.fixture.ts'
import { TurbineError } from '../contract/errors.ts'
import { decodeJob, maxInlineImageBytes } from '../contract/job.ts'
import type { EdgeDeps } from '../deps.ts'
import { pollUntil } from './once.ts'

const png = pngHeader()
const keyed = (key = 'k', headers: Record<string, string> = {}) =>
  rawRequest(png, { 'idempotency-key': key, ...headers })
const ids = (edge: ReturnType<typeof fakeEdge>) => edge.sent.map(({ record }) => decodeJob(record).id)
const edgeOf = (overrides: Partial<EdgeDeps> = {}) =>
  fakeEdge({ now: Date.now, newId: randomUUID, ...overrides })
const store = (edge: ReturnType<typeof fakeEdge>, id: string, caption: object = completed(id)) =>
  edge.deps.store.put(`captions/default/${id}.json`, JSON.stringify(caption))

/** A stream that takes its time. */
const neverSent = () => ({ send: vi.fn(() => new Promise<void>(() => {})) })

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms))

test('a request without a key is sent as ever', async () => {
  const edge = edgeOf()
  await post(edge, rawRequest(png))
  expect(decodeJob(edge.sent[0]!.record).repeatable).toBeUndefined()
  expect(edge.objects.size).toBe(0)
})

test('a repeat is answered with the result of the first, and nothing is sent', async () => {
  const edge = edgeOf()
  const first = await post(edge, keyed())
  expect(first.headers.has('idempotent-replayed')).toBe(false)
  const caption = (await first.json()) as { id: string }
  await store(edge, caption.id)
  const repeat = await post(edge, keyed())
  expect(repeat.status).toBe(200)
  expect(repeat.headers.get('idempotent-replayed')).toBe('true')
  expect(await repeat.json()).toEqual(caption)
  expect(edge.sent).toHaveLength(1)
  expect(decodeJob(edge.sent[0]!.record).repeatable).toBe(true)
})

test('a failure is replayed too', async () => {
  const edge = edgeOf({ mailbox: emptyMailbox })
  const { id } = (await (await post(edge, keyed(), '?deadline_ms=1')).json()) as { id: string }
  await store(edge, id, failed(id))
  const repeat = await post(edge, keyed(), '?deadline_ms=1')
  expect(repeat.status).toBe(400)
  expect(repeat.headers.get('idempotent-replayed')).toBe('true')
  expect(await errorOf(repeat)).toMatchObject({ code: 'image_invalid' })
})

test('a request that was rejected is tried anew by its repeat, under the same id', async () => {
  const edge = edgeOf({ mailbox: emptyMailbox })
  const { id } = (await (await post(edge, keyed(), '?deadline_ms=1')).json()) as { id: string }
  await store(edge, id, { ...failed(id), http_status: 429 })
  await post(edge, keyed(), '?deadline_ms=1')
  expect(ids(edge)).toEqual([id, id])
})

test('a request that its edge rejects is tried anew by its repeat, which must be the same', async () => {
  let busy = true
  const overloaded = new TurbineError('later', { status: 429, code: 'overloaded', retryAfterSeconds: 2 })
  const edge = edgeOf({ rejection: () => (busy ? overloaded : undefined) })
  expect((await post(edge, keyed())).status).toBe(429)
  expect(edge.sent).toEqual([])
  busy = false
  expect((await post(edge, rawRequest(pngHeader(9, 9), { 'idempotency-key': 'k' }))).status).toBe(422)
  const repeat = await post(edge, keyed())
  expect([repeat.status, repeat.headers.get('idempotent-replayed')]).toEqual([200, null])
  expect(edge.sent).toHaveLength(1)
})

test('a repeat whose result is late is told the address', async () => {
  const edge = edgeOf({ mailbox: emptyMailbox })
  const { id } = (await (await post(edge, keyed(), '?deadline_ms=1')).json()) as { id: string }
  const late = await post(edge, keyed(), '?deadline_ms=1')
  expect(late.status).toBe(202)
  expect(late.headers.get('location')).toBe(`/v1/captions/${id}`)
  expect(edge.sent).toHaveLength(1)
  await store(edge, id)
  expect((await post(edge, keyed(), '?deadline_ms=1')).status).toBe(200)
})

test('a repeat waits for a result that comes while it is held', async () => {
  const edge = edgeOf()
  const { id } = (await (await post(edge, keyed())).json()) as { id: string }
  let reads = 0
  const { get } = edge.deps.store
  edge.deps.store.get = async (key) => {
    if (key.startsWith('captions/') && ++reads === 2) await store(edge, id)
    return get(key)
  }
  expect(await (await post(edge, keyed())).json()).toEqual(completed(id))
  expect(reads).toBe(2)
  expect(edge.sent).toHaveLength(1)
})

test('with Prefer: respond-async a repeat is not held', async () => {
  const edge = edgeOf()
  const asked = keyed('k', { prefer: 'respond-async' })
  const [first, repeat] = [await post(edge, asked), await post(edge, asked)]
  expect([first.status, repeat.status]).toEqual([202, 202])
  expect(repeat.headers.get('location')).toBe(first.headers.get('location'))
  expect(edge.sent).toHaveLength(1)
})

test('the key outlives the edge', async () => {
  const before = edgeOf()
  const { id } = (await (await post(before, keyed())).json()) as { id: string }
  await store(before, id)
  const after = edgeOf({ store: before.deps.store })
  expect(await (await post(after, keyed())).json()).toEqual(completed(id))
  expect(after.sent).toEqual([])
})

test('a repeat that comes while the first is being sent waits for its result', async () => {
  const taken = Promise.withResolvers<void>()
  const stream = { send: vi.fn(() => taken.promise) }
  const edge = edgeOf({ stream })
  const first = post(edge, keyed())
  await vi.waitFor(() => expect(stream.send).toHaveBeenCalled())
  const repeat = post(edge, keyed())
  await pause(60)
  taken.resolve()
  const caption = (await (await first).json()) as { id: string }
  await store(edge, caption.id)
  expect(await (await repeat).json()).toEqual(caption)
  expect(stream.send).toHaveBeenCalledTimes(1)
})

test('a repeat whose first is still being sent at its deadline is told to come again', async () => {
  const sending = neverSent()
  const edge = edgeOf({ stream: sending })
  const query = '?deadline_ms=60'
  void edge.app.request(`/v1/captions${query}`, keyed())
  await vi.waitFor(() => expect(sending.send).toHaveBeenCalled())
  const repeat = await post(edge, keyed(), query)
  expect(repeat.status).toBe(409)
  expect(repeat.headers.get('retry-after')).toBe('1')
  expect(await errorOf(repeat)).toMatchObject({ code: 'idempotency_key_in_use' })
})

test('what the stream refused is sent by the repeat, at once and under the same id', async () => {
  const edge = edgeOf()
  const { send } = edge.deps.stream
  let refused: string | undefined
  edge.deps.stream.send = async (_topic, records) => {
    refused = decodeJob(records[0]!).id
    throw new StreamUnavailableError('away')
  }
  expect((await post(edge, keyed())).status).toBe(503)
  edge.deps.stream.send = send
  const repeat = await post(edge, keyed())
  expect(repeat.status).toBe(200)
  expect(repeat.headers.has('idempotent-replayed')).toBe(false)
  expect(ids(edge)).toEqual([refused])
})

test('what an edge was at when it died is taken over after half a minute', async () => {
  const sending = neverSent()
  const dead = edgeOf({ stream: sending })
  void dead.app.request('/v1/captions', keyed())
  await vi.waitFor(() => expect(sending.send).toHaveBeenCalled())
  const edge = edgeOf({ store: dead.deps.store, now: () => Date.now() + 30_000 })
  expect((await post(edge, keyed())).status).toBe(200)
  expect(edge.sent).toHaveLength(1)
})

test('a large image stays for the repeat, since a refused job may be in the stream all the same', async () => {
  const edge = edgeOf({ stream: { send: () => Promise.reject(new StreamUnavailableError('away')) } })
  const large = new Uint8Array(maxInlineImageBytes + 1)
  large.set(png)
  await post(edge, rawRequest(large, { 'idempotency-key': 'k' }))
  expect(edge.objects.keys().filter((key) => key.endsWith('.image'))).toHaveLength(1)
})

test('the same key with another image or option is 422', async () => {
  const edge = edgeOf()
  await post(edge, keyed())
  const others = [
    await post(edge, rawRequest(pngHeader(9, 9), { 'idempotency-key': 'k' })),
    await post(edge, keyed(), '?max_prune=0'),
  ]
  for (const other of others) {
    expect(other.status).toBe(422)
    expect(await errorOf(other)).toMatchObject({ code: 'idempotency_key_reused' })
  }
  expect(edge.sent).toHaveLength(1)
})

test('a repeat does not fetch the image again, and a wrong request can be corrected under its key', async () => {
  let fetched = 0
  const edge = edgeOf({
    images: async () => {
      if (fetched++ > 0) return png
      throw imageFaults.noObject('s3://photos/a')
    },
  })
  const ask = (body: object) => post(edge, jsonRequest(body, { 'idempotency-key': 'k' }))
  expect((await ask({ image_url: 'https://example.com/a.png' })).status).toBe(400)
  const first = await ask({ image_url: 'https://example.com/b.png' })
  expect(first.status).toBe(200)
  await store(edge, ((await first.json()) as { id: string }).id)
  expect((await ask({ image_url: 'https://example.com/b.png' })).status).toBe(200)
  expect(fetched).toBe(2)
})

test('what was accepted says so in the store', async () => {
  const edge = edgeOf()
  await post(edge, keyed())
  const [claim] = edge.objects.keys().filter((key) => key.startsWith('idempotency/default/'))
  expect(await getJson(edge.deps.store, claim!)).toMatchObject({ state: 'accepted' })
})

describe('pollUntil', () => {
  const never = new AbortController().signal

  beforeEach(() => void vi.useFakeTimers({ now: 0 }))
  afterEach(() => void vi.useRealTimers())

  test('pauses grow from 50 to 500 ms, and the last attempt is at the end', async () => {
    const attempts: number[] = []
    const attempt = async () => void attempts.push(Date.now())
    const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: never })
    await vi.runAllTimersAsync()
    expect(await found).toBeUndefined()
    const pauses = attempts.slice(1).map((time, index) => time - attempts[index]!)
    expect(attempts[0]).toBe(0)
    expect(pauses[0]).toBe(50)
    expect(Math.max(...pauses)).toBe(500)
    expect(attempts.at(-1)).toBe(3000)
  })

  test('the first value ends it', async () => {
    let attempts = 0
    const attempt = async () => (++attempts === 3 ? 'value' : undefined)
    const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: never })
    await vi.runAllTimersAsync()
    expect(await found).toBe('value')
    expect(attempts).toBe(3)
  })

  test('there is one attempt even when the time is up already', async () => {
    expect(await pollUntil(async () => 'value', { until: -1, now: Date.now, signal: never })).toBe('value')
  })

  test('it ends at once when nobody wants the value any more', async () => {
    const caller = new AbortController()
    const attempt = vi.fn(async () => undefined)
    const found = pollUntil(attempt, { until: 3000, now: Date.now, signal: caller.signal })
    await vi.advanceTimersByTimeAsync(60)
    caller.abort()
    expect(await found).toBeUndefined()
    expect(attempt).toHaveBeenCalledTimes(2)
    expect(vi.getTimerCount()).toBe(0)
  })
})
