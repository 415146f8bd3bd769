import { setImmediate } from 'node:timers/promises'
import { Agent } from 'undici'
import { retry } from '../../infra/retry.ts'
import { traceparent } from '../../infra/telemetry/tracing.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import { type CaptionPart, callerLeftStatus, type PartDelivery, signReply } from '../contract/reply.ts'

/** A finished caption was not reported to the edge. Its caller gets a 202 instead; the result is in the store. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError'
  readonly retriable: boolean

  constructor(message: string, { retriable, cause }: { retriable: boolean; cause?: unknown }) {
    super(message, cause === undefined ? undefined : { cause })
    this.retriable = retriable
  }
}

/** The part of `fetch` that a replier uses. */
export type PostReply = (
  url: URL,
  init: {
    method: 'POST'
    headers: Record<string, string>
    body: string
    signal: AbortSignal
    redirect: 'error'
  },
) => Promise<{ ok: boolean; status: number; text(): Promise<string> }>

export interface ReplierOptions {
  /** Shared by edges and processors. */
  secret: string
  /** Default: the platform's. Keep-alive saves a handshake per reply. */
  fetch?: PostReply
  /** Unix ms; default: the system's clock. */
  now?(): number
  /** Time limit of one attempt, ms; default 2000. */
  timeoutMs?: number
  /** Pauses between attempts, ms; default 50 and 250. */
  pausesMs?: number[]
}

/** @returns whether a caller was waiting for the caption */
export type Replier = (replyTo: string, caption: FinishedCaption) => Promise<boolean>

/**
 * Reports finished captions to the edge that holds the caller: signed, dated and retried.
 *
 * @returns a function that rejects with ReplyError, which is only worth a log line
 * @example
 * const reply = createReplier({ secret, fetch: createKeepAliveFetch().fetch })
 * await reply('https://edge.example.com/internal/replies/cap_1', caption)
 */
export function createReplier(options: ReplierOptions): Replier {
  const { pausesMs = [50, 250] } = options
  return async (replyTo, caption) => {
    const url = replyAddress(replyTo)
    const attempt = async () => (await post(options, url, caption)) === 'taken'
    return retry(attempt, {
      tries: 1 + pausesMs.length,
      pauseMs: (failures) => pausesMs[failures - 1]!,
    })
  }
}

/** Announces parts of captions. Each is tried once, since the next one makes up for it. */
export type PartReplier = (replyTo: string, part: CaptionPart) => Promise<PartDelivery>

/** @returns a function that rejects with ReplyError */
export function createPartReplier(options: Omit<ReplierOptions, 'pausesMs'>): PartReplier {
  return async (replyTo, part) => post(options, replyAddress(replyTo), part)
}

function replyAddress(replyTo: string): URL {
  const url = URL.parse(replyTo)
  if (url?.protocol === 'https:' || url?.protocol === 'http:') return url
  throw new ReplyError(`"${replyTo.slice(0, 200)}" is not an http or https address to reply to.`, {
    retriable: false,
  })
}

/** @throws ReplyError */
async function post(
  { secret, now = Date.now, timeoutMs = 2000, fetch = globalThis.fetch }: ReplierOptions,
  url: URL,
  reply: FinishedCaption | CaptionPart,
): Promise<PartDelivery> {
  // Signed per attempt: the signature includes the time.
  const { headers, body } = signReply(secret, reply.id, reply, now())
  const signal = AbortSignal.timeout(timeoutMs)
  const trace = traceparent()
  const send = async () => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headers, ...(trace && { traceparent: trace }) },
      body,
      signal,
      redirect: 'error',
    })
    // Read to the end, so that the connection is free for the next reply: one turn of the event loop later.
    const answer = await response.text()
    await setImmediate()
    return { ok: response.ok, status: response.status, answer }
  }
  const { ok, status, answer } = await send().catch((cause: unknown) => {
    throw new ReplyError(`The edge at ${url.origin} is unreachable.`, { retriable: true, cause })
  })
  if (status === callerLeftStatus) return 'left'
  if (!ok) throw rejectedWith(status, url)
  return answer === JSON.stringify({ delivered: true }) ? 'taken' : 'unwanted'
}

const rejectedWith = (status: number, url: URL) =>
  new ReplyError(
    status === 401 || status === 404
      ? `The edge at ${url.origin} rejected a reply with status ${status}. TURBINE_REPLY_SECRET must be the same there and here, and the clocks within two minutes.`
      : `The edge at ${url.origin} responded to a reply with status ${status}.`,
    { retriable: status >= 500 || status === 429 },
  )

/**
 * `fetch` for Node that keeps connections open for a minute, so that replies seldom wait for a handshake. It follows no
 * redirects, and takes a fraction of the time of undici's own.
 *
 * @example const { fetch, close } = createKeepAliveFetch()
 */
export function createKeepAliveFetch(): { fetch: PostReply; close(): Promise<void> } {
  const agent = new Agent({ keepAliveTimeout: 60_000, connections: 64 })
  return {
    async fetch({ origin, pathname, search }, { method, headers, body, signal }) {
      const request = { origin, path: `${pathname}${search}`, method, headers, body, signal }
      const { statusCode: status, body: answer } = await agent.request(request)
      return { ok: status >= 200 && status < 300, status, text: () => answer.text() }
    },
    close: () => agent.close(),
  }
}
