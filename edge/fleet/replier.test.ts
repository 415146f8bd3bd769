import { once } from 'node:events'
import { createServer, type RequestListener } from 'node:http'
import type { AddressInfo } from 'node:net'
import { context, ROOT_CONTEXT, trace } from '@opentelemetry/api'
import { AsyncLocalStorageContextManager } from '@opentelemetry/context-async-hooks'
import { afterEach, expect, test } from 'vitest'
import { completed } from '../app.fixture.ts'
import {
  type CaptionPart,
  maxReplyAgeMs,
  signatureHeader,
  timestampHeader,
  verifyReply,
} from '../contract/reply.ts'
import {
  createKeepAliveFetch,
  createPartReplier,
  createReplier,
  type PostReply,
  ReplyError,
} from './replier.ts'

const secret = 'a secret of the fleet'
const now = () => 1_790_000_000_000
const edge = 'https://edge.example.com/internal/replies/cap_1'

const closers: (() => unknown)[] = []
afterEach(async () => {
  for (const close of closers.splice(0)) await close()
})

/** A `fetch` that answers with the statuses given, the last one for ever; a status of 0 is a lost connection. */
function edgeThat(...statuses: number[]) {
  const posts: Parameters<PostReply>[] = []
  const fetch: PostReply = async (...post) => {
    posts.push(post)
    const status = statuses.length > 1 ? statuses.shift()! : statuses[0]!
    if (status === 0) throw new TypeError('fetch failed')
    return { ok: status === 200, status, text: async () => '' }
  }
  return { posts, reply: createReplier({ secret, fetch, now, pausesMs: [0, 0] }) }
}

test('what is posted is genuine for the edge, and for this request only', async () => {
  const { posts, reply } = edgeThat(200)
  await reply(edge, completed('cap_1'))
  const [url, { headers, body, redirect }] = posts[0]!
  expect([url.href, redirect]).toEqual([edge, 'error'])
  const posted = { signature: headers[signatureHeader], timestamp: headers[timestampHeader], body }
  expect(verifyReply(secret, 'cap_1', posted, now())).toEqual({ caption: completed('cap_1') })
  expect(verifyReply(secret, 'cap_2', posted, now())).toEqual({ fault: 'forged' })
  expect(verifyReply(secret, 'cap_1', posted, now() + maxReplyAgeMs + 1)).toEqual({ fault: 'stale' })
})

test('the edge is told which trace the reply belongs to', async () => {
  context.setGlobalContextManager(new AsyncLocalStorageContextManager().enable())
  closers.push(() => context.disable())
  const { posts, reply } = edgeThat(200)
  const span = { traceId: 'a'.repeat(32), spanId: 'b'.repeat(16), traceFlags: 1 }
  await context.with(trace.setSpanContext(ROOT_CONTEXT, span), () => reply(edge, completed('cap_1')))
  await reply(edge, completed('cap_1'))
  const parents = posts.map(([, { headers }]) => headers.traceparent)
  expect(parents).toEqual([`00-${span.traceId}-${span.spanId}-01`, undefined])
})

test.each([true, false])('it says whether the caller is answered: %s', async (delivered) => {
  const text = async () => JSON.stringify({ delivered })
  const fetch: PostReply = async () => ({ ok: true, status: 200, text })
  expect(await createReplier({ secret, fetch })(edge, completed('cap_1'))).toBe(delivered)
})

const part: CaptionPart = { id: 'cap_1', object: 'caption.part', created: 1, texts: [] }

test.each([
  [200, true, 'taken'],
  [200, false, 'unwanted'],
  [410, false, 'left'],
] as const)('a part answered with %i and delivered %s is %s', async (status, delivered, delivery) => {
  const posts: Parameters<PostReply>[1][] = []
  const fetch: PostReply = async (_url, post) => {
    posts.push(post)
    return { ok: status === 200, status, text: async () => JSON.stringify({ delivered }) }
  }
  expect(await createPartReplier({ secret, fetch, now })(edge, part)).toBe(delivery)
  const [{ headers, body }] = posts as [Parameters<PostReply>[1]]
  const posted = { signature: headers[signatureHeader], timestamp: headers[timestampHeader], body }
  expect(verifyReply(secret, 'cap_1', posted, now())).toEqual({ part })
})

test.each([0, 500, 404])('a part that meets a %i is not tried again', async (status) => {
  let posts = 0
  const fetch: PostReply = async () => {
    posts++
    if (status === 0) throw new TypeError('fetch failed')
    return { ok: false, status, text: async () => '' }
  }
  await expect(createPartReplier({ secret, fetch })(edge, part)).rejects.toThrow(ReplyError)
  expect(posts).toBe(1)
})

test.each([0, 500, 503, 429])('%i is tried again until it works', async (status) => {
  const { posts, reply } = edgeThat(status, status, 200)
  await reply(edge, completed('cap_1'))
  expect(posts).toHaveLength(3)
})

test('a try is signed when it is made', async () => {
  let clock = now()
  const stamps: unknown[] = []
  const fetch: PostReply = async (_url, { headers }) => {
    stamps.push(headers[timestampHeader])
    return { ok: false, status: 503, text: async () => '' }
  }
  const reply = createReplier({ secret, fetch, now: () => clock++, pausesMs: [0] })
  await expect(reply(edge, completed('cap_1'))).rejects.toThrow(ReplyError)
  expect(stamps).toEqual([String(now()), String(now() + 1)])
})

test('after three tries it is given up', async () => {
  const { posts, reply } = edgeThat(0)
  await expect(reply(edge, completed('cap_1'))).rejects.toMatchObject({ name: 'ReplyError', retriable: true })
  expect(posts).toHaveLength(3)
})

test.each([401, 404, 400])('%i is not tried again', async (status) => {
  const { posts, reply } = edgeThat(status)
  await expect(reply(edge, completed('cap_1'))).rejects.toMatchObject({
    name: 'ReplyError',
    retriable: false,
  })
  expect(posts).toHaveLength(1)
})

test.each(['local:cap_1', 'file:///etc/passwd', ''])('nothing is sent to %j', async (address) => {
  const { posts, reply } = edgeThat(200)
  await expect(reply(address, completed('cap_1'))).rejects.toMatchObject({ retriable: false })
  expect(posts).toHaveLength(0)
})

async function serve(listener: RequestListener): Promise<{ url: string; connections(): number }> {
  let connections = 0
  const server = createServer(listener).listen(0, '127.0.0.1')
  server.on('connection', () => connections++)
  closers.push(() => new Promise((closed) => server.close(closed)))
  await once(server, 'listening')
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    connections: () => connections,
  }
}

test('replies to an edge share a connection', async () => {
  const { url, connections } = await serve((request, response) =>
    request.resume().on('end', () => response.end('{"delivered":true}')),
  )
  const { fetch, close } = createKeepAliveFetch()
  closers.unshift(close)
  const reply = createReplier({ secret, fetch })
  for (const id of ['a', 'b', 'c']) await reply(url, completed(id))
  expect(connections()).toBe(1)
})

test('what is signed for an edge does not go on to where it points', async () => {
  const elsewhere = await serve((_, response) => response.end('{"delivered":true}'))
  const { url } = await serve((request, response) =>
    request.resume().on('end', () => response.writeHead(307, { location: elsewhere.url }).end()),
  )
  const { fetch, close } = createKeepAliveFetch()
  closers.unshift(close)
  const reply = createReplier({ secret, fetch, pausesMs: [] })
  await expect(reply(url, completed('a'))).rejects.toMatchObject({ name: 'ReplyError' })
  expect(elsewhere.connections()).toBe(0)
})

test('an edge that does not answer is not waited for', async () => {
  const { url } = await serve(() => {})
  const { fetch, close } = createKeepAliveFetch()
  closers.unshift(close)
  const reply = createReplier({ secret, fetch, timeoutMs: 5, pausesMs: [] })
  await expect(reply(url, completed('a'))).rejects.toMatchObject({ name: 'ReplyError', retriable: true })
})
