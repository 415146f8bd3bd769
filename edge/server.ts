import { hash } from 'node:crypto'
import { once } from 'node:events'
import type { IncomingMessage, Server } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import { freeBytes } from '../infra/free-bytes.ts'
import { sleep, valueWithin } from '../infra/timing.ts'
import { maxBodyBytes } from './contract/caption.ts'
import { shuttingDown } from './contract/errors.ts'
import type { RequestPlatform } from './deps.ts'
import { FairStarts } from './fair-starts.ts'
import { SenderPace } from './sender-pace.ts'

export interface ServeOptions {
  host: string
  /** 0 takes a free one. */
  port: number
  /** Maximum open connections. Default 10,000. */
  maxConnections?: number
  /** Time for the headers of a request, and for the first byte of a connection, ms. Default 20,000. */
  headersMs?: number
  /** Time in which a caller must take more of a response, ms. Default 60,000. */
  unreadMs?: number
  /** Pace of one sender's large bodies together, bytes per second. Default 100 million. */
  senderRate?: number
  /** Reverse proxies in front of the server, whose `X-Forwarded-For` is believed. Default 0. */
  proxies?: number
  /** Called after the drain time: releases callers that still wait for a caption, so that they get 202. */
  releaseWaiting?(): void
}

export interface NodeServer {
  /** E.g. `http://127.0.0.1:8787`. */
  address: string
  /**
   * Rejects new requests, waits at most `drainMs` for those in flight, then releases waiting callers and closes every
   * connection.
   */
  close(drainMs?: number): Promise<void>
}

/** The server cannot listen. The message is one line with the remedy. */
export class ListenError extends Error {
  override readonly name = 'ListenError'
  readonly retriable = false
}

/** Longer than the 60 s of common load balancers, so that none of them uses a connection being closed. */
const keepAliveMs = 65_000
/** For the last responses, after the callers have been released, ms. */
const lastResponsesMs = 1_000

const defaultHeadersMs = 20_000
const defaultUnreadMs = 60_000
const defaultMaxConnections = 10_000

/** An app that is served. */
export type FetchApp = { fetch(request: Request, platform: RequestPlatform): Response | Promise<Response> }

/**
 * Serves an app over HTTP on Node.
 * @throws ListenError
 *
 * @example
 * const server = await serveNode(app, { host: '127.0.0.1', port: 8787, releaseWaiting: mailbox.release })
 * await server.close(25_000)
 */
export async function serveNode(app: FetchApp, options: ServeOptions): Promise<NodeServer> {
  const { host, port, headersMs = defaultHeadersMs, unreadMs = defaultUnreadMs } = options
  const { senderRate = defaultSenderRate, proxies = 0, releaseWaiting } = options
  let draining = false
  const starts = new FairStarts()
  const unread = new SenderPace({ bytesPerSecond: senderRate, longestMs: longestUnreadMs })
  const reading = new SenderPace({ bytesPerSecond: senderRate, aheadMs: readAheadMs })
  const server = createAdaptorServer({
    fetch: async (request, { incoming, outgoing }) => {
      const body = incoming as IncomingMessage
      const address = addressBehind(proxies, body)
      const sender = body.headers.authorization ?? address ?? ''
      const platform = {
        address,
        chunks: () => (isSmall(body) ? chunksOf(body) : pacedChunks(body, { pace: reading, sender })),
        cutOff: () => void outgoing.destroy(),
      }
      await starts.enter(sender)
      const response = draining ? rejectWhileDraining() : await app.fetch(request, platform)
      if (!body.complete && !isSmall(body)) {
        // Whoever has no valid key could have another for each request.
        const owner = response.status === 401 ? (address ?? '') : sender
        const delayMs = unread.delay(hash('sha256', owner), announcedBytes(body))
        if (delayMs === undefined) platform.cutOff()
        else if (delayMs > 0) await sleep(delayMs, request.signal)
        body.on('data', freeBytes)
      }
      // From now on the response is written; until then its connection may be silent.
      outgoing.setTimeout(unreadMs, platform.cutOff)
      // The client's next request uses a new connection, to another server.
      if (draining || bodyIsIgnored(request.method, body)) response.headers.set('connection', 'close')
      return response
    },
    serverOptions: {
      keepAliveTimeout: keepAliveMs,
      headersTimeout: headersMs,
      connectionsCheckingInterval: headersMs / 4,
      // Large files take time; bodies have a least rate instead.
      requestTimeout: 0,
    },
  }) as Server
  server.maxConnections = options.maxConnections ?? defaultMaxConnections
  // Connections that only wait for a next request make room.
  server.on('drop', () => server.closeIdleConnections())
  const requests = trackRequests(server)
  await listen(server, host, port)
  return {
    address: addressOf(server, host),
    async close(drainMs = 0) {
      draining = true
      const closed = new Promise<void>((resolve) => server.close(() => resolve()))
      const answered = requests.answered().then(() => true)
      if (!(await valueWithin(drainMs, answered))) {
        releaseWaiting?.()
        await valueWithin(lastResponsesMs, answered)
      }
      // The remaining connections are idle: browsers open them ahead, and clients keep them.
      server.closeAllConnections()
      await closed
    },
  }
}

/** Bodies up to this size are taken in whole with the head of the request, or nearly, bytes. */
const smallBodyBytes = 128 * 1024

const defaultSenderRate = 100_000_000
/**
 * Refused bodies are not read, but a client that is still sending when it has its answer is let finish, since few look for an
 * answer before. So who sends many of them gets its answers one after the other, as if they were read; those that would wait
 * longer than this are cut off, ms.
 */
const longestUnreadMs = 5_000
/** Bodies that are read are taken as fast as they come, up to what comes in this time, ms. */
const readAheadMs = 300
/** Shorter delays are left to the next chunk, ms. */
const leastDelayMs = 20

/** Of a body without a length all that a request may have. */
const announcedBytes = ({ headers }: IncomingMessage) => Number(headers['content-length'] ?? maxBodyBytes)

const isSmall = (body: IncomingMessage) => announcedBytes(body) <= smallBodyBytes

const chunksOf = (body: IncomingMessage) =>
  body.iterator({ destroyOnReturn: false }) as AsyncIterator<Uint8Array>

/** Chunks of a large body; while its sender is ahead of its pace they wait in the network. */
async function* pacedChunks(
  body: IncomingMessage,
  { pace, sender }: { pace: SenderPace; sender: string },
): AsyncGenerator<Uint8Array> {
  const owner = hash('sha256', sender)
  for await (const chunk of body.iterator({ destroyOnReturn: false }) as AsyncIterable<Uint8Array>) {
    const delayMs = pace.delay(owner, chunk.byteLength) ?? 0
    if (delayMs >= leastDelayMs) await sleep(delayMs)
    yield chunk
  }
}

/** The address that the outermost of the proxies saw. */
function addressBehind(proxies: number, { headers, socket }: IncomingMessage): string | undefined {
  const hops = [...String(headers['x-forwarded-for'] ?? '').split(','), socket.remoteAddress ?? '']
  return hops.at(-1 - proxies)?.trim() || socket.remoteAddress
}

/** The body of a request that may have none is never read, so that the next request would wait for its end. */
const bodyIsIgnored = (method: string, { headers }: IncomingMessage) =>
  (method === 'GET' || method === 'HEAD') &&
  (headers['transfer-encoding'] !== undefined || Number(headers['content-length'] ?? 0) > 0)

/** Tracks when every request has its response, or has lost its caller. */
function trackRequests(server: Server) {
  let running = 0
  let onAnswered = () => {}
  server.on('request', (_request, response) => {
    running++
    response.once('close', () => {
      running--
      if (running === 0) onAnswered()
    })
  })
  return {
    answered: () =>
      new Promise<void>((resolve) => {
        onAnswered = resolve
        if (running === 0) resolve()
      }),
  }
}

const rejectWhileDraining = () => {
  const error = shuttingDown()
  return Response.json(error.toBody(), { status: error.status, headers: { 'retry-after': '1' } })
}

async function listen(server: Server, host: string, port: number): Promise<void> {
  const listening = once(server, 'listening')
  server.listen(port, host)
  await listening.catch((error) => {
    throw listenError(error, host, port)
  })
}

function listenError(cause: NodeJS.ErrnoException, host: string, port: number): ListenError {
  const messages: Record<string, string> = {
    EADDRINUSE: `Port ${port} on ${host} is in use. Stop the program that listens there, or choose another port with --port or TURBINE_PORT (0 takes a free one).`,
    EACCES: `This user may not listen on port ${port}. Choose one above 1023 with --port or TURBINE_PORT.`,
    EADDRNOTAVAIL: `This machine has no address ${host}. Choose one of its own with --host or TURBINE_HOST.`,
    ENOTFOUND: `The host ${host} is unknown. Choose an address of this machine with --host or TURBINE_HOST.`,
  }
  const message = messages[cause.code ?? ''] ?? `Cannot listen on ${host}, port ${port}: ${cause.message}`
  return new ListenError(message, { cause })
}

function addressOf(server: Server, host: string): string {
  const address = server.address()
  const port = address !== null && typeof address === 'object' ? address.port : 0
  return `http://${host.includes(':') ? `[${host}]` : host}:${port}`
}
