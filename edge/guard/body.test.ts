import * as zlib from 'node:zlib'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { nodeDecoders } from '../../infra/compression/node-decoders.ts'
import { webDecoders } from '../../infra/compression/web-decoders.ts'
import { completed, errorOf, fakeEdge, jsonRequest, pngHeader, rawRequest } from '../app.fixture.ts'
import type { Tenant } from '../contract/tenant.ts'
import type { EdgeDeps } from '../deps.ts'
import { createBodyMemory } from './body-memory.ts'
import { bodyPatienceMs } from './body-source.ts'
import { createLimiter } from './limits.ts'

const start = 1_790_000_000_000
const MiB = 1024 * 1024
const tenant = (limits: Tenant['limits'] = {}, id = 'default'): Tenant => ({ id, grants: [], limits })

/** A body that a test sends bit by bit. */
function slowBody() {
  const { readable, writable } = new TransformStream<Uint8Array, Uint8Array>()
  const writer = writable.getWriter()
  writer.closed.catch(() => {})
  return {
    body: readable,
    send: (bytes: Uint8Array) => void writer.write(bytes).catch(() => {}),
    end: () => void writer.close().catch(() => {}),
  }
}

/** Turns of the event loop, without a clock. */
const settle = () => vi.advanceTimersByTimeAsync(0)

interface EdgeOptions {
  bytes?: number
  waitMs?: number
  /** Limits of the tenants, whose keys are their names. */
  limits?: Tenant['limits']
  overrides?: Partial<EdgeDeps>
}

function edgeWith({ bytes = 8 * MiB, waitMs = 0, limits = {}, overrides = {} }: EdgeOptions = {}) {
  const edge = fakeEdge({
    accounts: {
      configured: async () => true,
      tenantOfKey: async (key) => tenant(limits, key),
      knows: () => true,
      defaultTenant: async () => tenant(limits),
    },
    limiter: createLimiter({ now: () => start }),
    bodies: {
      memory: createBodyMemory({ bytes, waitMs }),
      minRate: 1024,
      streamBytes: MiB,
      decoders: nodeDecoders,
    },
    ...overrides,
  })
  const ask = (init: RequestInit, { key = 'acme', length }: { key?: string; length?: number } = {}) =>
    edge.app.request('/v1/captions', {
      ...init,
      headers: {
        ...(init.headers as Record<string, string>),
        authorization: `Bearer ${key}`,
        ...(length !== undefined && { 'content-length': String(length) }),
      },
      duplex: 'half',
    } as RequestInit)
  /** Announces a body and sends nothing of it. */
  const stall = (length: number, key = 'acme') => {
    const { body, ...sender } = slowBody()
    return { ...sender, response: ask(rawRequest(body), { key, length }) }
  }
  return { ...edge, ask, stall }
}

const codeOf = async (response: Promise<Response> | Response) => {
  const { status } = await response
  return [status, status < 400 ? undefined : (await errorOf((await response).clone())).code]
}

beforeEach(() => void vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout', 'performance'] }))
afterEach(() => void vi.useRealTimers())

describe('a body that is slow', () => {
  test('is 408 when nothing comes, and its connection is closed', async () => {
    const { stall } = edgeWith()
    const { response } = stall(100)
    await vi.advanceTimersByTimeAsync(bodyPatienceMs)
    expect(await codeOf(response)).toEqual([408, 'body_too_slow'])
    expect((await response).headers.get('connection')).toBe('close')
  })

  test('is 408 when it stays behind the least rate, however often a byte comes', async () => {
    const { stall } = edgeWith()
    const { response, send } = stall(1000)
    let done = false
    void Promise.resolve(response).then(() => {
      done = true
    })
    for (let seconds = 0; seconds < 35 && !done; seconds++) {
      send(new Uint8Array(1))
      await vi.advanceTimersByTimeAsync(1_000)
    }
    expect(await codeOf(response)).toEqual([408, 'body_too_slow'])
  })

  test('is taken for as long as it comes at the least rate', async () => {
    const { stall, sent } = edgeWith({ bytes: 16 * MiB })
    const { response, send, end } = stall(600 * 1024)
    send(pngHeader())
    send(new Uint8Array(1024 - 33))
    for (let seconds = 1; seconds < 600; seconds++) {
      await vi.advanceTimersByTimeAsync(1_000)
      send(new Uint8Array(1024))
    }
    end()
    await settle()
    expect(await codeOf(response)).toEqual([200, undefined])
    expect(sent).toHaveLength(1)
  })

  test('of an upload is 408 too, and leaves nothing behind', async () => {
    const edge = edgeWith()
    const { body, send } = slowBody()
    const response = edge.app.request('/v1/files', {
      method: 'POST',
      body,
      headers: { authorization: 'Bearer acme', 'content-type': 'multipart/form-data; boundary=b' },
      duplex: 'half',
    } as RequestInit)
    send(
      new TextEncoder().encode(
        '--b\r\ncontent-disposition: form-data; name="file"; filename="a.jsonl"\r\n\r\nhttps://x/a.jpg',
      ),
    )
    await vi.advanceTimersByTimeAsync(bodyPatienceMs)
    expect(await codeOf(response)).toEqual([408, 'body_too_slow'])
    expect(edge.objects.size).toBe(0)
  })

  test('holds neither a place in the queue nor one of its tenant', async () => {
    const edge = edgeWith({
      limits: { inFlight: 1 },
      overrides: { roomIn: (held) => (held < 1 ? 0 : 1) },
    })
    const stalled = [1, 2, 3].map(() => edge.stall(100).response)
    await settle()
    expect(await codeOf(edge.ask(rawRequest(pngHeader())))).toEqual([200, undefined])
    await vi.advanceTimersByTimeAsync(bodyPatienceMs)
    for (const response of stalled) expect(await codeOf(response)).toEqual([408, 'body_too_slow'])
  })

  test('takes both when it is there', async () => {
    const produced = Promise.withResolvers<void>()
    const edge = edgeWith({
      limits: { inFlight: 1 },
      overrides: { stream: { send: () => produced.promise } },
    })
    const { response, send, end } = edge.stall(33)
    send(pngHeader())
    end()
    await settle()
    expect(await codeOf(edge.ask(rawRequest(pngHeader())))).toEqual([429, 'too_many_in_flight'])
    produced.resolve()
    expect(await codeOf(response)).toEqual([200, undefined])
    expect(await codeOf(edge.ask(rawRequest(pngHeader())))).toEqual([200, undefined])
  })

  test('that arrives when the queue is full by then is refused', async () => {
    let full = false
    const edge = edgeWith({ overrides: { roomIn: () => (full ? 3 : 0) } })
    const { response, send, end } = edge.stall(33)
    await settle()
    full = true
    send(pngHeader())
    end()
    expect(await codeOf(response)).toEqual([429, 'queue_full'])
  })
})

describe('memory of bodies', () => {
  test('is a tenant’s up to its share, and others pass beside it', async () => {
    const edge = edgeWith()
    edge.stall(4 * MiB, 'hostile')
    await settle()
    const refused = edge.ask(rawRequest(pngHeader()), { key: 'hostile', length: 33 })
    expect(await codeOf(refused)).toEqual([429, 'too_many_bytes_in_flight'])
    expect((await refused).headers.get('retry-after')).toBe('2')
    expect(await codeOf(edge.ask(rawRequest(pngHeader()), { length: 33 }))).toEqual([200, undefined])
  })

  test('has room for one more tenant’s small request, however many take all they can get', async () => {
    const edge = edgeWith()
    for (const key of ['a', 'b', 'c', 'd', 'e'])
      for (const length of [4, 2, 1, 0.5, 0.25, 0.125].map((size) => size * MiB)) {
        edge.stall(length, key)
        await settle()
      }
    const large = edge.ask(rawRequest(pngHeader()), { length: MiB })
    expect(await codeOf(large)).toEqual([503, 'memory_full'])
    expect((await large).headers.get('retry-after')).toBe('2')
    expect(await codeOf(edge.ask(rawRequest(pngHeader()), { length: 33 }))).toEqual([200, undefined])
  })

  test('is free again when a body is late', async () => {
    const edge = edgeWith()
    const { response } = edge.stall(4 * MiB)
    await vi.advanceTimersByTimeAsync(bodyPatienceMs)
    expect((await response).status).toBe(408)
    expect(await codeOf(edge.ask(rawRequest(pngHeader()), { length: 33 }))).toEqual([200, undefined])
  })

  test('counts what the store buffers of uploads', async () => {
    const edge = edgeWith()
    const upload = (key: string) =>
      edge.app.request('/v1/files', {
        method: 'POST',
        body: slowBody().body,
        headers: {
          authorization: `Bearer ${key}`,
          'content-type': 'multipart/form-data; boundary=b',
          'content-length': String(100 * MiB),
        },
        duplex: 'half',
      } as RequestInit)
    const stalled = [1, 2, 3, 4].map(() => upload('hostile'))
    await settle()
    expect(await codeOf(upload('hostile'))).toEqual([429, 'too_many_bytes_in_flight'])
    const honest = upload('acme')
    await vi.advanceTimersByTimeAsync(bodyPatienceMs)
    for (const response of [...stalled, honest])
      expect(await codeOf(response)).toEqual([408, 'body_too_slow'])
    expect(await codeOf(edge.ask(rawRequest(pngHeader()), { key: 'hostile', length: 33 }))).toEqual([
      200,
      undefined,
    ])
  })

  test('is waited for a moment, so that a burst passes', async () => {
    const edge = edgeWith({ waitMs: 2_000 })
    const first = edge.stall(4 * MiB)
    await settle()
    const [second, third] = [1, 2].map(() => edge.ask(rawRequest(pngHeader()), { length: 33 }))
    await vi.advanceTimersByTimeAsync(1_999)
    const image = new Uint8Array(4 * MiB)
    image.set(pngHeader())
    first.send(image)
    first.end()
    for (const response of [first.response, second!, third!])
      expect(await codeOf(response)).toEqual([200, undefined])
    edge.stall(4 * MiB)
    await settle()
    const late = edge.ask(rawRequest(pngHeader()), { length: 33 })
    await vi.advanceTimersByTimeAsync(2_000)
    expect(await codeOf(late)).toEqual([429, 'too_many_bytes_in_flight'])
  })

  test('is reserved as a body grows that does not say how long it is', async () => {
    const edge = edgeWith({ bytes: 4 * MiB })
    const { body, send, end } = slowBody()
    const response = edge.ask(rawRequest(body))
    for (let sent = 0; sent < 24; sent++) send(new Uint8Array(64 * 1024))
    end()
    expect(await codeOf(response)).toEqual([429, 'too_many_bytes_in_flight'])
    expect(await codeOf(edge.ask(rawRequest(pngHeader())))).toEqual([200, undefined])
  })

  test('counts what becomes of JSON', async () => {
    const edge = edgeWith()
    const ask = (length: number) => edge.ask(jsonRequest('{'), { length })
    edge.ask(rawRequest(slowBody().body, { 'content-type': 'application/json' }), { length: MiB })
    await settle()
    expect(await codeOf(ask(MiB))).toEqual([429, 'too_many_bytes_in_flight'])
  })

  test('counts the image at an address, until the job is sent', async () => {
    const sending = Promise.withResolvers<void>()
    const edge = edgeWith({
      overrides: {
        images: async (_, { room }) => {
          await room?.(4 * MiB - 2 * 1024)
          return pngHeader()
        },
        stream: { send: () => sending.promise },
      },
    })
    const ask = () => edge.ask(jsonRequest({ image_url: 'https://example.com/a.png' }), { length: 41 })
    const first = ask()
    await settle()
    // Its size was not known: it takes less now.
    const second = ask()
    await settle()
    sending.resolve()
    for (const response of [first, second]) expect(await codeOf(response)).toEqual([200, undefined])
    const hanging = Promise.withResolvers<never>()
    edge.deps.images = async (_, { room }) => {
      await room?.(4 * MiB - 2 * 1024)
      return hanging.promise
    }
    ask()
    await settle()
    expect(await codeOf(ask())).toEqual([429, 'too_many_bytes_in_flight'])
  })

  test('is free when the job is sent, while the caller waits for the caption', async () => {
    const caption = Promise.withResolvers<void>()
    const mailbox: EdgeDeps['mailbox'] = {
      deliver: () => false,
      show: () => 'unwanted',
      open: (id) => ({
        replyTo: `test:${id}`,
        wait: async () => {
          await caption.promise
          return completed(id)
        },
        close: () => {},
      }),
    }
    const edge = edgeWith({ overrides: { mailbox } })
    const image = new Uint8Array(4 * MiB)
    image.set(pngHeader())
    const asked: (Response | Promise<Response>)[] = []
    for (let count = 1; count <= 3; count++) {
      asked.push(edge.ask(rawRequest(image), { length: image.length }))
      await vi.waitFor(() => expect(edge.sent).toHaveLength(count))
    }
    caption.resolve()
    for (const response of asked) expect(await codeOf(response)).toEqual([200, undefined])
  })
})

test.each([
  ['shorter', 40, 400, 'body_incomplete'],
  ['longer', 20 * MiB + 1, 413, 'body_too_large'],
])('a body that is %s than may be is refused', async (_, length, status, code) => {
  const edge = edgeWith({ bytes: 64 * MiB })
  expect(await codeOf(edge.ask(rawRequest(pngHeader()), { length }))).toEqual([status, code])
})

describe('a body that was compressed for its way', () => {
  beforeEach(() => void vi.useRealTimers())
  const png = pngHeader()
  const json = Buffer.from(
    JSON.stringify({ image_url: `data:image/png;base64,${Buffer.from(png).toString('base64')}` }),
  )
  const form = Buffer.from(
    [
      ...['--b', 'content-disposition: form-data; name="purpose"', '', 'batch'],
      ...['--b', 'content-disposition: form-data; name="file"; filename="a.jsonl"', '', 'https://x/a.jpg'],
      ...['--b--', ''],
    ].join('\r\n'),
  )
  const encoders: [string, (body: Uint8Array) => Uint8Array][] = [
    ['gzip', zlib.gzipSync],
    ['deflate', zlib.deflateSync],
    ['deflate', zlib.deflateRawSync],
    ['br', zlib.brotliCompressSync],
    ['zstd', zlib.zstdCompressSync],
    ['identity', (body) => body],
  ]
  const send = (
    edge: ReturnType<typeof edgeWith>,
    body: Uint8Array,
    headers: Record<string, string>,
    path = '/v1/captions',
  ) =>
    edge.app.request(path, {
      ...{ method: 'POST', body: body as Uint8Array<ArrayBuffer> },
      headers: { authorization: 'Bearer acme', 'content-length': String(body.length), ...headers },
    })

  describe.each(encoders)('with %s', (encoding, encode) => {
    test.each([
      ['an image', png, 'image/png'],
      ['JSON', json, 'application/json'],
    ])('is taken as %s', async (_, body, type) => {
      const edge = edgeWith({ bytes: 64 * MiB })
      const headers = { 'content-type': type, 'content-encoding': encoding }
      expect(await codeOf(send(edge, encode(body), headers))).toEqual([200, undefined])
      expect(edge.sent).toHaveLength(1)
    })

    test('is taken as a file', async () => {
      const edge = edgeWith()
      const headers = { 'content-type': 'multipart/form-data; boundary=b', 'content-encoding': encoding }
      const response = await send(edge, encode(form), headers, '/v1/files')
      expect(await response.json()).toMatchObject({ bytes: 'https://x/a.jpg'.length })
    })
  })

  test.each([
    ['an image', { 'content-type': 'image/png' }, '/v1/captions', 'body_too_large'],
    ['JSON', { 'content-type': 'application/json' }, '/v1/batches', 'body_too_large'],
  ])('holds the limit with what comes of it: %s', async (_, headers, path, code) => {
    const edge = edgeWith({ bytes: 256 * MiB })
    const bomb = zlib.gzipSync(new Uint8Array(100 * MiB))
    const response = send(edge, bomb, { ...headers, 'content-encoding': 'gzip' }, path)
    expect(await codeOf(response)).toEqual([413, code])
  })

  test('that is a file within its limit is not more than that', async () => {
    const edge = edgeWith({ limits: { storageBytes: 1000 } })
    const large = Buffer.concat([form.subarray(0, -9), Buffer.alloc(MiB, 'x'), form.subarray(-9)])
    const headers = { 'content-type': 'multipart/form-data; boundary=b', 'content-encoding': 'gzip' }
    const response = send(edge, zlib.gzipSync(large), headers, '/v1/files')
    expect(await codeOf(response)).toEqual([403, 'storage_limit_exceeded'])
  })

  test.each([
    ['compress', nodeDecoders, 'gzip, deflate, br, zstd'],
    ['gzip, gzip, gzip', nodeDecoders, 'gzip, deflate, br, zstd'],
    ['br', webDecoders, 'gzip, deflate'],
    ['zstd', webDecoders, 'gzip, deflate'],
  ])(
    'with %s is refused where it cannot be undone, and what can is said',
    async (encoding, decoders, accepted) => {
      const bodies = { memory: createBodyMemory({ bytes: MiB }), minRate: 1024, streamBytes: MiB, decoders }
      const edge = edgeWith({ overrides: { bodies } })
      for (const [path, type] of [
        ['/v1/captions', 'image/png'],
        ['/v1/files', 'multipart/form-data; boundary=b'],
      ] as const) {
        const response = await send(edge, png, { 'content-type': type, 'content-encoding': encoding }, path)
        expect(await codeOf(response)).toEqual([415, 'content_encoding_unsupported'])
        expect(response.headers.get('accept-encoding')).toBe(accepted)
      }
    },
  )

  test.each([
    ['damaged', zlib.gzipSync(json).map((byte, i) => (i > 12 ? byte ^ 0x55 : byte))],
    ['cut off', zlib.gzipSync(json).subarray(0, -12)],
    ['something else', json],
  ])('and is %s is the fault of the request', async (_, body) => {
    const headers = { 'content-type': 'application/json', 'content-encoding': 'gzip' }
    const response = send(edgeWith(), body, headers)
    expect(await codeOf(response)).toEqual([400, 'content_encoding_invalid'])
  })
})

describe('bytes that nobody needs any more are freed at once, without a garbage collection', () => {
  const large = () => {
    const image = new Uint8Array(3 * 64 * 1024)
    image.set(pngHeader())
    return image
  }
  /** As Node gives it: chunks with a buffer of their own. */
  const arriving = (image: Uint8Array) =>
    [0, 1, 2].map((index) => image.slice(index * 64 * 1024, (index + 1) * 64 * 1024))

  test.each([true, false])('chunks, when they are copied; with a length: %s', async (announced) => {
    const edge = fakeEdge()
    const chunks = arriving(large())
    const init = rawRequest(new Uint8Array(0))
    const headers = { ...(init.headers as Record<string, string>) }
    if (announced) headers['content-length'] = String(large().length)
    else headers['transfer-encoding'] = 'chunked'
    const platform = {
      chunks: () =>
        (async function* () {
          yield* chunks
        })(),
    }
    const response = await edge.app.request('/v1/captions', { ...init, headers }, platform)
    expect(response.status).toBe(200)
    expect(chunks.map(({ length }) => length)).toEqual([0, 0, 0])
    expect(edge.sent[0]!.record.value).toEqual(large())
  })

  test('the body, when the stream has it', async () => {
    let value: Uint8Array | undefined
    const edge = fakeEdge({
      stream: {
        send: async (_topic, [record]) => {
          value = record!.value
          expect(value).toEqual(large())
        },
      },
    })
    expect((await edge.app.request('/v1/captions', rawRequest(large()))).status).toBe(200)
    expect(value).toHaveLength(0)
  })

  test.each([
    ['that is refused', `{"messages":[${'0,'.repeat(150_000)}0]}`, 400],
    ['that is read', JSON.stringify({ image_url: `data:image/png;base64,${'A'.repeat(300_000)}` }), 415],
  ])('JSON %s', async (_, body, status) => {
    const transfer = vi.spyOn(ArrayBuffer.prototype, 'transfer')
    const response = await fakeEdge().app.request('/v1/captions', {
      ...{ method: 'POST', body },
      headers: { 'content-type': 'application/json', 'content-length': String(body.length) },
    })
    expect(response.status).toBe(status)
    expect(transfer).toHaveBeenCalledWith(0)
    transfer.mockRestore()
  })
})
