import { Agent, fetch } from 'undici'
import { retry } from '../../infra/retry.ts'
import { traceparent } from '../../infra/telemetry/tracing.ts'
import type { FinishedCaption } from '../contract/caption.ts'
import { signReply } from '../contract/reply.ts'

/** The edge was not told of a finished caption. Its caller gets an address instead; the result lies in the store. */
export class ReplyError extends Error {
  override readonly name = 'ReplyError'
  /** Whether a repeat could have been taken. */
  readonly retriable: boolean

  constructor(message: string, { retriable, cause }: { retriable: boolean; cause?: unknown }) {
    super(message, cause === undefined ? undefined : { cause })
    this.retriable = retriable
  }
}

/** What a replier needs of `fetch`. */
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
  /** What the edge knows its processors by. */
  secret: string
  /** Default: the platform's. One that keeps connections open saves a handshake for each reply. */
  fetch?: PostReply
  /** Unix ms; default: the system's clock. */
  now?(): number
  /** Time for one try, ms; default 2000. */
  timeoutMs?: number
  /** Pauses between the tries, ms; default 50 and 250. */
  pausesMs?: number[]
}

/** @returns whether the caption answers its caller's request; false when nobody waits */
export type Replier = (replyTo: string, caption: FinishedCaption) => Promise<boolean>

/**
 * Tells the edge that holds a caller of the finished caption: signed, dated, and again where that can help.
 *
 * @returns a function; it rejects with ReplyError, which is a reason to write a line into the log and no more
 * @example
 * const reply = createReplier({ secret, fetch: createKeepAliveFetch().fetch })
 * await reply('https://edge.example.com/internal/replies/cap_1', caption)
 */
export function createReplier(options: ReplierOptions): Replier {
  const { pausesMs = [50, 250] } = options
  return async (replyTo, caption) => {
    const url = replyAddress(replyTo)
    return await retry(() => tryReply(options, url, caption), {
      tries: 1 + pausesMs.length,
      pauseMs: (failures) => pausesMs[failures - 1]!,
    })
  }
}

function replyAddress(replyTo: string): URL {
  const url = URL.parse(replyTo)
  if (url?.protocol === 'https:' || url?.protocol === 'http:') return url
  throw new ReplyError(`"${replyTo.slice(0, 200)}" is not an http or https address to reply to.`, {
    retriable: false,
  })
}

/**
 * @returns whether somebody waits
 * @throws ReplyError
 */
async function tryReply(
  { secret, now = Date.now, timeoutMs = 2000, fetch = globalThis.fetch }: ReplierOptions,
  url: URL,
  caption: FinishedCaption,
): Promise<boolean> {
  // Signed for each try: its age is part of it.
  const { headers, body } = await signReply(secret, caption.id, caption, now())
  const signal = AbortSignal.timeout(timeoutMs)
  const trace = traceparent()
  const post = async () => {
    const response = await fetch(url, {
      method: 'POST',
      headers: { ...headers, ...(trace && { traceparent: trace }) },
      body,
      signal,
      redirect: 'error',
    })
    // Read to its end, so that the connection is free for the next reply.
    return { ok: response.ok, status: response.status, answer: await response.text() }
  }
  const { ok, status, answer } = await post().catch((cause: unknown) => {
    throw new ReplyError(`The edge at ${url.origin} could not be reached with a reply.`, {
      retriable: true,
      cause,
    })
  })
  if (!ok) throw refusedWith(status, url)
  return answer === JSON.stringify({ delivered: true })
}

const refusedWith = (status: number, url: URL) =>
  new ReplyError(
    status === 401 || status === 404
      ? `The edge at ${url.origin} refused a reply with status ${status}. TURBINE_REPLY_SECRET must be the same there and here, and the clocks within two minutes.`
      : `The edge at ${url.origin} answered a reply with status ${status}.`,
    { retriable: status >= 500 || status === 429 },
  )

/**
 * A `fetch` for Node that keeps its connections open for a minute, so that replies to an edge seldom wait for a
 * handshake. `close` ends them.
 *
 * @example const { fetch, close } = createKeepAliveFetch()
 */
export function createKeepAliveFetch(): { fetch: PostReply; close(): Promise<void> } {
  const agent = new Agent({ keepAliveTimeout: 60_000, connections: 64 })
  return {
    fetch: (url, init) => fetch(url, { ...init, dispatcher: agent }),
    close: () => agent.close(),
  }
}
