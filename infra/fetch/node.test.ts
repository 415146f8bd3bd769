import { once } from 'node:events'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import * as zlib from 'node:zlib'
import { afterEach, describe, expect, test } from 'vitest'
import type { ImageAsk } from './image-source.ts'
import type { Lookup } from './lookup.ts'
import { type NodeImageSourceOptions, openImageSource } from './node.ts'
import { isPublicAddress } from './public-address.ts'

const opened: (Server | ReturnType<typeof openImageSource>)[] = []
const { signal } = new AbortController()
afterEach(async () => {
  for (const each of opened.splice(0)) {
    if ('closeAllConnections' in each) each.closeAllConnections()
    await each.close()
  }
})

/** A server on loopback; the address it answers at. */
async function serve(listener: RequestListener): Promise<string> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  opened.push(server)
  await once(server, 'listening')
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

function fetcher(options: Partial<NodeImageSourceOptions> = {}) {
  const images = openImageSource({ maxBytes: 1000, allowPrivate: true, ...options })
  opened.push(images)
  return (url: string, abort = signal, ask: Partial<ImageAsk> = {}) =>
    images.imageAt(url, { granted: noGrant, signal: abort, ...ask })
}

function noGrant(): never {
  throw new Error('No grant is needed.')
}

/** A resolver that knows the names given; `called` counts. */
function resolver(addresses: string[][]): { lookup: Lookup; called: () => number } {
  let calls = 0
  const lookup: Lookup = (_hostname, _options, callback) => {
    const found = addresses[Math.min(calls++, addresses.length - 1)]!
    callback(
      null,
      found.map((address) => ({ address, family: address.includes(':') ? 6 : 4 })),
    )
  }
  return { lookup, called: () => calls }
}

const image = (body: Uint8Array | string, headers = {}): RequestListener => {
  return (_, response) => response.writeHead(200, { 'content-type': 'image/png', ...headers }).end(body)
}

test('gives the bytes', async () => {
  const url = await serve(image('pixels', { 'content-type': 'Image/PNG; charset=binary' }))
  expect(new TextDecoder().decode(await fetcher()(`${url}/photo.png?size=large`))).toBe('pixels')
})

test.each(['application/octet-stream', 'binary/octet-stream', undefined])(
  'takes the type %s',
  async (type) => {
    const url = await serve((_, response) => {
      if (type) response.setHeader('content-type', type)
      response.end('x')
    })
    expect(await fetcher()(url)).toHaveLength(1)
  },
)

test.each([
  'nonsense',
  '',
  'ftp://example.com/a',
  'file:///etc/passwd',
  'http://example.com/',
  'https://u:p@example.com/',
])('refuses the address %j without connecting', async (url) => {
  const { lookup, called } = resolver([['127.0.0.1']])
  const images = fetcher({ allowPrivate: false, lookup })
  await expect(images(url)).rejects.toMatchObject({ code: 'image_url_invalid', retriable: false })
  expect(called()).toBe(0)
})

test.each([
  '127.0.0.1',
  '[::1]',
  '10.0.0.1',
  '169.254.169.254',
  '0x7f.1',
  '2130706433',
  '[::ffff:127.0.0.1]',
])('refuses the private address %s', async (host) => {
  const images = fetcher({ allowPrivate: false })
  const fetched = images(`https://${host}/latest/meta-data`)
  await expect(fetched).rejects.toMatchObject({ code: 'image_url_private', retriable: false })
})

test.each([[['127.0.0.1']], [['8.8.8.8', '10.0.0.1']], [['::1']]])(
  'refuses a public-looking name that resolves to %j',
  async (addresses) => {
    let connections = 0
    const url = await serve(() => connections++)
    const { lookup, called } = resolver([addresses])
    const images = fetcher({ allows: isPublicAddress, lookup })
    const fetched = images(url.replace('127.0.0.1', 'photos.example.com'))
    await expect(fetched).rejects.toMatchObject({ code: 'image_url_private' })
    expect(called()).toBe(1)
    expect(connections).toBe(0)
  },
)

test('resolves a name once for a connection: what was checked is what is connected to', async () => {
  const url = await serve(image('pixels'))
  const { lookup, called } = resolver([['127.0.0.1'], ['10.0.0.1']])
  const images = fetcher({ allows: (address) => address === '127.0.0.1', lookup })
  await images(url.replace('127.0.0.1', 'photos.example.com'))
  expect(called()).toBe(1)
})

test('checks where redirects lead', async () => {
  const url = await serve((_, response) => response.writeHead(302, { location: 'http://127.0.0.2/' }).end())
  const images = fetcher({ allows: (address) => address === '127.0.0.1' })
  await expect(images(url)).rejects.toMatchObject({ code: 'image_url_private' })
  const other = await serve((_, response) =>
    response.writeHead(302, { location: 'file:///etc/passwd' }).end(),
  )
  await expect(images(other)).rejects.toMatchObject({ code: 'image_url_invalid' })
})

test('follows redirects, relative ones too, but not for ever', async () => {
  const url = await serve((request, response) => {
    const left = Number(request.url!.slice(1))
    if (left === 0) return image('pixels')(request, response)
    response.writeHead(left % 2 ? 301 : 308, { location: `/${left - 1}` }).end('moved')
  })
  expect(await fetcher()(`${url}/10`)).toHaveLength(6)
  await expect(fetcher()(`${url}/11`)).rejects.toMatchObject({ code: 'image_url_redirects' })
})

test('refuses what is too large, by its length or while it is read', async () => {
  expect(await fetcher()(await serve(image(new Uint8Array(1000))))).toHaveLength(1000)
  const stated = await serve(image(new Uint8Array(1001)))
  await expect(fetcher()(stated)).rejects.toMatchObject({ code: 'image_url_too_large' })
  let ended = false
  const endless = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'image/png' })
    const timer = setInterval(() => response.write(new Uint8Array(400)), 1)
    response.on('close', () => {
      clearInterval(timer)
      ended = true
    })
  })
  await expect(fetcher()(endless)).rejects.toMatchObject({ code: 'image_url_too_large' })
  await expect.poll(() => ended).toBe(true)
})

test.each([
  [404, 'image_not_found', false],
  [410, 'image_not_found', false],
  [401, 'image_forbidden', false],
  [403, 'image_forbidden', false],
  [204, 'image_url_status', false],
  [400, 'image_url_status', false],
  [429, 'image_host_rate_limited', true],
  [503, 'image_url_status', true],
])('status %i is %s, retriable: %s', async (status, code, retriable) => {
  const url = await serve((_, response) => response.writeHead(status).end())
  await expect(fetcher()(url)).rejects.toMatchObject({ code, retriable })
})

test('gives up at its deadline, before the headers or in the body', async () => {
  const silent = await serve(() => {})
  const stalled = await serve((_, response) => {
    response.writeHead(200, { 'content-type': 'image/png' }).write('x')
  })
  for (const url of [silent, stalled]) {
    const fetched = fetcher({ timeoutMs: 50 })(url)
    await expect(fetched).rejects.toMatchObject({ code: 'image_url_timeout', retriable: true })
  }
})

test('ends with the reason of the caller that aborts', async () => {
  const url = await serve(() => {})
  const reason = new Error('the caller has gone')
  const abort = new AbortController()
  const fetched = fetcher()(url, abort.signal)
  abort.abort(reason)
  await expect(fetched).rejects.toBe(reason)
})

test('an address that nobody answers at is unreachable, and no query shows in the message', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  const fetched = fetcher()(`http://127.0.0.1:${port}/?signature=secret`)
  await expect(fetched).rejects.toMatchObject({ code: 'image_url_unreachable', retriable: true })
  await expect(fetched).rejects.not.toThrow('secret')
  await expect(fetched).rejects.toThrow('ECONNREFUSED')
})

test('a name that does not resolve is unreachable', async () => {
  const lookup: Lookup = (_hostname, _options, callback) => {
    callback(Object.assign(new Error('not found'), { code: 'ENOTFOUND' }), [])
  }
  const fetched = fetcher({ lookup })('http://nowhere.example/')
  await expect(fetched).rejects.toMatchObject({ code: 'image_url_unreachable' })
})

test.each([
  ['what is not HTTP', 'does not match the HTTP', ({ socket }) => void socket.end('SSH-2.0-x\r\n\r\n')],
  [
    'a length that is none',
    'does not match the HTTP',
    ({ socket }) => void socket.end('HTTP/1.1 200 OK\r\ncontent-length: -4\r\n\r\n'),
  ],
  ['too long headers', 'HEADERS_OVERFLOW', image('x', { 'x-long': 'x'.repeat(100_000) })],
  ['too many encodings', 'too many', image('x', { 'content-encoding': Array(20).fill('gzip').join() })],
] satisfies [string, string, RequestListener][])(
  '%s is unreachable for good, and told',
  async (_, says, listener) => {
    const fetched = fetcher()(await serve(listener))
    await expect(fetched).rejects.toMatchObject({ code: 'image_url_unreachable', retriable: false })
    await expect(fetched).rejects.toThrow(says)
  },
)

test('a port that is closed to browsers is unreachable for good', async () => {
  const fetched = fetcher()('http://127.0.0.1:9/')
  await expect(fetched).rejects.toMatchObject({ code: 'image_url_unreachable', retriable: false })
  await expect(fetched).rejects.toThrow('bad port')
})

/** A server whose open connections are counted, under any name. */
async function serveAnyName() {
  const server = createServer(image('pixels')).listen(0, '127.0.0.1')
  server.keepAliveTimeout = 60_000
  opened.push(server)
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const lookup: Lookup = (_hostname, _options, callback) =>
    callback(null, [{ address: '127.0.0.1', family: 4 }])
  const connections = () =>
    new Promise<number>((resolve, reject) =>
      server.getConnections((error, count) => (error ? reject(error) : resolve(count))),
    )
  return { lookup, connections, urlOf: (i: number) => `http://host${i}.example:${port}/` }
}

test('keeps connections to few hosts, however many there were', async () => {
  const { lookup, connections, urlOf } = await serveAnyName()
  const images = fetcher({ lookup, connections: { hosts: 16, idleMs: 60_000 } })
  for (let first = 0; first < 300; first += 20)
    await Promise.all(Array.from({ length: 20 }, (_, i) => images(urlOf(first + i))))
  await expect.poll(connections).toBeLessThanOrEqual(16)
})

test('keeps them for a moment, whatever the server asks for', async () => {
  const { lookup, connections, urlOf } = await serveAnyName()
  const images = fetcher({ lookup, connections: { idleMs: 50 } })
  await Promise.all(Array.from({ length: 40 }, (_, i) => images(urlOf(i))))
  await expect.poll(connections).toBe(0)
})

test('uses a connection again, and one host gets no more than its maximum', async () => {
  const { lookup, connections, urlOf } = await serveAnyName()
  const images = fetcher({ lookup, connections: { perHost: 3, idleMs: 60_000 } })
  await Promise.all(Array.from({ length: 50 }, () => images(urlOf(0))))
  expect(await connections()).toBeLessThanOrEqual(3)
  expect(await connections()).toBeGreaterThan(0)
})

test('an image under way comes to its end when its host makes room for others', async () => {
  let answer: (() => void) | undefined
  const url = await serve((request, response) => {
    if (request.url === '/slow') answer = () => image('pixels')(request, response)
    else image('pixels')(request, response)
  })
  const { lookup } = resolver([['127.0.0.1']])
  const images = fetcher({ lookup, connections: { hosts: 1 } })
  const slow = images(`${url}/slow`)
  await expect.poll(() => answer).toBeDefined()
  await images(url.replace('127.0.0.1', 'other.example'))
  answer!()
  expect(await slow).toHaveLength(6)
})

describe('an answer that is compressed', () => {
  const answering = (body: Uint8Array, encoding: string) =>
    serve((_, response) =>
      response.writeHead(200, { 'content-type': 'image/png', 'content-encoding': encoding }).end(body),
    )

  test.each<[string, (body: Uint8Array) => Uint8Array]>([
    ['gzip', zlib.gzipSync],
    ['x-gzip', zlib.gzipSync],
    ['deflate', zlib.deflateSync],
    ['deflate', zlib.deflateRawSync],
    ['br', zlib.brotliCompressSync],
    ['zstd', zlib.zstdCompressSync],
  ])('with %s is the image, within its limit', async (encoding, encode) => {
    const pixels = new TextEncoder().encode('pixels')
    expect(await fetcher()(await answering(encode(pixels), encoding))).toEqual(pixels)
    const bomb = await answering(encode(new Uint8Array(1e7)), encoding)
    await expect(fetcher()(bomb)).rejects.toMatchObject({ code: 'image_url_too_large' })
  })

  test('and damaged is the fault of the image', async () => {
    const url = await answering(new Uint8Array([1, 2, 3, 4]), 'gzip')
    await expect(fetcher()(url)).rejects.toMatchObject({ code: 'image_invalid', retriable: false })
  })
})

test('names the service, and keeps and sends no cookies', async () => {
  const seen: IncomingHttpHeaders[] = []
  const url = await serve((request, response) => {
    seen.push(request.headers)
    response.setHeader('set-cookie', 'a=b; Path=/')
    if (request.url === '/1') response.writeHead(302, { location: '/2' }).end()
    else image('pixels')(request, response)
  })
  const images = fetcher({ userAgent: 'Turbine/1.2.3 (contact: me@example.com)' })
  for (const path of ['/1', '/2']) await images(`${url}${path}`)
  expect(seen).toHaveLength(3)
  for (const headers of seen) {
    expect(headers['user-agent']).toBe('Turbine/1.2.3 (contact: me@example.com)')
    expect(headers.cookie).toBeUndefined()
  }
})

test('follows an address in raw UTF-8', async () => {
  const asked: string[] = []
  const url = await serve((request, response) => {
    asked.push(request.url!)
    if (asked.length > 1) return image('pixels')(request, response)
    response.socket!.end(
      Buffer.from(
        'HTTP/1.1 302 Found\r\nLocation: /b\u00fccher/\u65e5\u672c.jpg\r\nContent-Length: 0\r\n\r\n',
      ),
    )
  })
  expect(await fetcher()(url)).toHaveLength(6)
  expect(asked[1]).toBe('/b%C3%BCcher/%E6%97%A5%E6%9C%AC.jpg')
})
