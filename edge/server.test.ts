import { once } from 'node:events'
import { request as nodeRequest } from 'node:http'
import { connect, createServer } from 'node:net'
import { afterEach, expect, test } from 'vitest'
import { completed, fakeEdge, pngHeader, rawRequest } from './app.fixture.ts'
import { maxBodyBytes } from './contract/caption.ts'
import type { EdgeDeps, RequestPlatform } from './deps.ts'
import { ListenError, type NodeServer, type ServeOptions, serveNode } from './server.ts'
import { createMailbox, type LocalMailbox } from './submit/mailbox.ts'

const servers: NodeServer[] = []
afterEach(async () => {
  await Promise.all(servers.splice(0).map((server) => server.close()))
})

async function serve(
  overrides: Partial<EdgeDeps> = {},
  mailbox?: LocalMailbox,
  limits: Partial<ServeOptions> = {},
) {
  const edge = fakeEdge(mailbox ? { mailbox, ...overrides } : overrides)
  const listen = { host: '127.0.0.1', port: 0, releaseWaiting: mailbox?.release }
  const server = await serveNode(edge.app, { ...listen, ...limits })
  servers.push(server)
  return { ...edge, server, url: `${server.address}/v1/captions` }
}

/** A stream that says when the first job arrived. */
function watchedStream() {
  const arrived = Promise.withResolvers<string>()
  const stream: EdgeDeps['stream'] = {
    send: async (_topic, [record]) => arrived.resolve(record!.headers['reply-to']!),
  }
  return { stream, arrived: arrived.promise }
}

test('an image goes in and its caption comes out over HTTP', async () => {
  const { url, sent } = await serve()
  const response = await fetch(url, rawRequest(pngHeader()))
  expect(response.status).toBe(200)
  expect(await response.json()).toEqual(completed('cap_2'))
  expect(new Uint8Array(sent[0]!.record.value)).toEqual(pngHeader())
})

test('a chunked body arrives whole', async () => {
  const { url, sent } = await serve()
  const image = new Uint8Array(300_000)
  image.set(pngHeader())
  const body = new Blob([image]).stream()
  const response = await fetch(url, { ...rawRequest(body), duplex: 'half' } as RequestInit)
  expect(response.status).toBe(200)
  expect(new Uint8Array(sent[0]!.record.value)).toEqual(image)
})

test('a body that is too large is refused without being sent whole', async () => {
  const { server } = await serve()
  const status = await new Promise((resolve, reject) => {
    const headers = { 'content-type': 'image/png', 'content-length': maxBodyBytes + 1 }
    const request = nodeRequest(`${server.address}/v1/captions`, { method: 'POST', headers }, (response) => {
      resolve(response.statusCode)
      request.destroy()
    })
    request.on('error', reject)
    request.flushHeaders()
  })
  expect(status).toBe(413)
})

test('large bodies of one sender that are refused are answered one after the other, and others beside them', async () => {
  const { server } = await serve()
  const answered: string[] = []
  const refused = (sender: string) => {
    const headers = {
      'content-type': 'image/png',
      'content-length': 20 * maxBodyBytes,
      authorization: `Bearer ${sender}`,
    }
    const request = nodeRequest(`${server.address}/v1/captions`, { method: 'POST', headers })
    request.on('error', () => {}).flushHeaders()
    return once(request, 'response').then(() => {
      answered.push(sender)
      request.destroy()
    })
  }
  await refused('a')
  await Promise.all([refused('a'), refused('b')])
  expect(answered).toEqual(['a', 'b', 'a'])
})

test('whoever has no valid key is one sender, whatever keys there are in the requests', async () => {
  const app = { fetch: () => new Response(null, { status: 401 }) }
  const server = await serveNode(app, { host: '127.0.0.1', port: 0 })
  servers.push(server)
  const ask = (key: string, bytes: number) => {
    const headers = { 'content-length': bytes, authorization: `Bearer ${key}` }
    const request = nodeRequest(server.address, { method: 'POST', headers })
    request.on('error', () => {}).flushHeaders()
    return once(request, 'response').then(() => {
      request.destroy()
      return key
    })
  }
  await ask('first', 20 * maxBodyBytes)
  expect(await Promise.race([ask('large', maxBodyBytes), ask('small', 100)])).toBe('small')
})

test('a caller who hangs up is waited for no longer', async () => {
  const { stream, arrived } = watchedStream()
  const mailbox = createMailbox()
  const gone = Promise.withResolvers<void>()
  const watched: EdgeDeps['mailbox'] = {
    deliver: () => false,
    show: () => 'unwanted',
    open: (id) => {
      const reply = mailbox.open(id)
      return { ...reply, close: () => gone.resolve(reply.close()) }
    },
  }
  const { url, objects } = await serve({ stream, mailbox: watched }, mailbox)
  const caller = new AbortController()
  const response = fetch(url, { ...rawRequest(pngHeader()), signal: caller.signal })
  await arrived
  caller.abort()
  await expect(response).rejects.toThrow()
  await gone.promise
  expect(objects.size).toBe(0)
})

test('while it drains, callers who wait get their caption', async () => {
  const { stream, arrived } = watchedStream()
  const mailbox = createMailbox()
  const { url, server } = await serve({ stream }, mailbox)
  const response = fetch(url, rawRequest(pngHeader()))
  await arrived
  const closed = server.close(60_000)
  mailbox.deliver('cap_2', completed('cap_2'))
  expect((await response).status).toBe(200)
  expect((await response).headers.get('connection')).toBe('close')
  await closed
  await expect(fetch(url)).rejects.toThrow()
})

test('when the drain time is over, callers who still wait get an address', async () => {
  const { stream, arrived } = watchedStream()
  const { url, server } = await serve({ stream }, createMailbox())
  const response = fetch(url, rawRequest(pngHeader()))
  await arrived
  await server.close(1)
  expect((await response).status).toBe(202)
  expect((await response).headers.get('location')).toBe('/v1/captions/cap_2')
})

test('a request that is only just arriving when the drain begins is refused', async () => {
  const { stream, arrived } = watchedStream()
  const mailbox = createMailbox()
  const { url, server } = await serve({ stream }, mailbox)
  const waiting = fetch(url, rawRequest(pngHeader()))
  await arrived

  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  const next = async () => String((await once(socket, 'data'))[0])
  const request = 'GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n'
  socket.write(request + request.slice(0, 20))
  expect(await next()).toContain('200 OK')
  const closed = server.close(60_000)
  socket.write(request.slice(20))
  const refusal = await next()
  expect(refusal).toContain('503 Service Unavailable')
  expect(refusal).toContain('connection: close')
  expect(refusal).toContain('shutting_down')

  mailbox.deliver('cap_2', completed('cap_2'))
  expect((await waiting).status).toBe(200)
  await closed
})

test('a connection without a request does not hold up the end', async () => {
  const { server, url } = await serve()
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  await once(socket, 'connect')
  await fetch(`${server.address}/health/live`)
  const ended = once(socket, 'close')
  await server.close(2 ** 31 - 1)
  await ended
})

/** A connection that says what it was sent. */
async function connection(url: string) {
  const socket = connect(Number(new URL(url).port), '127.0.0.1')
  let received = ''
  socket.on('data', (data) => {
    received += data
  })
  socket.on('error', () => {})
  await once(socket, 'connect')
  return { socket, closed: once(socket, 'close'), received: () => received }
}

test('a connection that does not finish its headers, or says nothing at all, is closed', async () => {
  const { url } = await serve({}, undefined, { headersMs: 40 })
  const silent = await connection(url)
  const slow = await connection(url)
  slow.socket.write('GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ')
  await Promise.all([silent.closed, slow.closed])
  expect(slow.received()).toContain('408 Request Timeout')
})

test('of more connections than may be open those without a request make room', async () => {
  const { url, server } = await serve({}, undefined, { maxConnections: 2 })
  const idle = await connection(url)
  idle.socket.write('GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await expect.poll(idle.received).toContain('200 OK')
  const [, third] = [await connection(url), await connection(url)]
  await Promise.all([idle.closed, third.closed])
  expect((await fetch(`${server.address}/health/live`)).status).toBe(200)
})

test('a request without use for a body costs its connection if it announces one', async () => {
  const { url } = await serve()
  const { socket, received, closed } = await connection(url)
  socket.write('GET /health/live HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n')
  await closed
  expect(received()).toContain('200 OK')
})

test.each([
  [0, '127.0.0.1'],
  [1, '198.51.100.2'],
  [2, '192.0.2.1'],
  [3, '127.0.0.1'],
])('behind %i proxies the caller is at %s', async (proxies, address) => {
  const seen: unknown[] = []
  const app = {
    fetch: (_: Request, platform: RequestPlatform) => {
      seen.push(platform.address)
      return new Response()
    },
  }
  const server = await serveNode(app, { host: '127.0.0.1', port: 0, proxies })
  servers.push(server)
  await fetch(server.address, { headers: { 'x-forwarded-for': '192.0.2.1, 198.51.100.2' } })
  expect(seen).toEqual([address])
})

test('a caller who takes nothing of a response is cut off', async () => {
  const asked = Promise.withResolvers<void>()
  const app = {
    fetch: () => {
      asked.resolve()
      return new Response('x'.repeat(32 * 1024 * 1024))
    },
  }
  const server = await serveNode(app, { host: '127.0.0.1', port: 0, unreadMs: 50 })
  servers.push(server)
  const { hostname, port } = new URL(server.address)
  const socket = connect(Number(port), hostname).pause()
  socket.on('error', () => {})
  socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
  await asked.promise
  // Waits for the end of the request.
  await server.close(600_000)
  socket.destroy()
})

test('neither a caller who waits for a response nor a connection without a request is cut off', async () => {
  const app = {
    fetch: async () => {
      await new Promise((resolve) => setTimeout(resolve, 100))
      return new Response('x')
    },
  }
  const server = await serveNode(app, { host: '127.0.0.1', port: 0, unreadMs: 20 })
  servers.push(server)
  const { socket, received } = await connection(server.address)
  for (let request = 1; request <= 3; request++) {
    socket.write('GET / HTTP/1.1\r\nHost: localhost\r\n\r\n')
    await once(socket, 'data')
    await new Promise((resolve) => setTimeout(resolve, 50))
    expect(received().split('200 OK')).toHaveLength(1 + request)
  }
  expect(socket.readyState).toBe('open')
  socket.destroy()
})

test('a port in use is one line with the remedy', async () => {
  const blocker = createServer().listen(0, '127.0.0.1')
  await new Promise((resolve) => blocker.once('listening', resolve))
  const address = blocker.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  const refused = serveNode(fakeEdge().app, { host: '127.0.0.1', port })
  await expect(refused).rejects.toThrow(ListenError)
  await expect(refused).rejects.toThrow(/^Port \d+ on 127\.0\.0\.1 is in use\. .*--port or TURBINE_PORT.*\.$/)
  blocker.close()
})

test('a host that is not here is one line with the remedy', async () => {
  const refused = serveNode(fakeEdge().app, { host: '192.0.2.1', port: 0 })
  await expect(refused).rejects.toThrow(/192\.0\.2\.1.*TURBINE_HOST/)
})

test('a sender’s large bodies are read at its pace, and small ones at once', async () => {
  const app = {
    async fetch(_request: Request, { chunks }: RequestPlatform) {
      let bytes = 0
      const source = chunks!()
      for (let next = await source.next(); !next.done; next = await source.next()) bytes += next.value.length
      return Response.json({ bytes })
    },
  }
  const server = await serveNode(app, { host: '127.0.0.1', port: 0, senderRate: 10_000_000 })
  const send = async (size: number) => {
    const start = performance.now()
    const response = await fetch(server.address, { method: 'POST', body: new Uint8Array(size) })
    expect(await response.json()).toEqual({ bytes: size })
    return performance.now() - start
  }
  // 3 MB come as fast as they can, and a turn is waited for when it is 20 ms ahead.
  expect(await send(4_000_000)).toBeGreaterThan(70)
  const [large] = await Promise.all([send(1_000_000), send(1_000)])
  expect(large).toBeGreaterThan(50)
  await server.close()
})
