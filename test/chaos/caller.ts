import { setTimeout as delay } from 'node:timers/promises'

/** One HTTP request and how it ended. */
export interface Attempt {
  /** Ms of `performance.now()`. */
  fromMs: number
  toMs: number
  route: string
  /** 0 when the connection failed, or when nothing came in time. */
  status: number
  /** Of an error's body, or of the connection. */
  code?: string
}

export interface Answer {
  status: number
  headers: Headers
  text: string
}

export interface Call {
  method?: 'GET' | 'POST'
  path: string
  headers?: Record<string, string>
  /** Made anew for every attempt. */
  body?(): RequestInit['body']
}

/** A call that got no answer which ends it before the patience was over. */
export class UnansweredError extends Error {
  override readonly name = 'UnansweredError'
}

export interface Caller {
  /** Resolves with the first answer that is not to be asked again: 2xx, or an error of the request itself. */
  call(call: Call): Promise<Answer>
}

export interface CallerOptions {
  edges: readonly string[]
  apiKey: string
  /** Ends all calls. */
  patience: AbortSignal
  onAttempt(attempt: Attempt): void
}

/** The edge holds a request for 25 s; past this nothing comes any more, ms. */
const attemptMs = 40_000
const longestPauseMs = 5000

/**
 * A caller as OpenAI's SDKs are: one of the edges for each attempt in turn, as behind a load balancer; again after a
 * broken connection, 408, 409 while the first request of a key runs, 429 and 5xx, after `Retry-After` or a pause that
 * grows. It is more patient than those: it asks until its signal ends it.
 */
export function createCaller({ edges, apiKey, patience, onAttempt }: CallerOptions): Caller {
  let turn = 0
  const attempt = async (call: Call): Promise<Answer | undefined> => {
    const fromMs = performance.now()
    const noted = { route: `${call.method ?? 'GET'} ${routeOf(call.path)}`, fromMs }
    const edge = edges[turn++ % edges.length]!
    try {
      const response = await fetch(`${edge}${call.path}`, {
        method: call.method ?? 'GET',
        body: call.body?.(),
        headers: { authorization: `Bearer ${apiKey}`, ...call.headers },
        signal: AbortSignal.any([patience, AbortSignal.timeout(attemptMs)]),
      })
      const { status, headers } = response
      const text = await response.text()
      onAttempt({ ...noted, toMs: performance.now(), status, code: status < 400 ? undefined : codeOf(text) })
      return { status, headers, text }
    } catch (error) {
      if (patience.aborted) throw new UnansweredError(`${noted.route} was never answered.`)
      onAttempt({ ...noted, toMs: performance.now(), status: 0, code: connectionCode(error) })
      return undefined
    }
  }
  return {
    async call(call) {
      for (let failures = 1; ; failures++) {
        const answer = await attempt(call)
        if (answer && !isTransient(answer)) return answer
        const asked = 1000 * Number(answer?.headers.get('retry-after') ?? 0)
        const pauseMs = Math.min(Math.max(asked, 100 * 2 ** Math.min(failures, 6)), longestPauseMs)
        await delay(pauseMs, undefined, { signal: patience }).catch(() => {
          throw new UnansweredError(`${call.path} was never answered.`)
        })
      }
    },
  }
}

function isTransient({ status, text }: Answer): boolean {
  if (status === 409) return codeOf(text) === 'idempotency_key_in_use'
  // An object of a caller's own bucket, while the whole store is away.
  if (status === 400) return codeOf(text) === 's3_unavailable'
  return status === 408 || status === 429 || status >= 500
}

/** `/v1/files/file-1/content?x=1` -> `/v1/files/{id}/content` */
const routeOf = (path: string) =>
  path.replace(/\?.*$/, '').replace(/\/(cap_|file-|upload_|batch_)[\w-]+/, '/{id}')

function codeOf(text: string): string {
  try {
    return (JSON.parse(text) as { error: { code: string } }).error.code
  } catch {
    return text.slice(0, 80)
  }
}

function connectionCode(error: unknown): string {
  const { name, cause } = error as { name: string; cause?: { code?: string } }
  return cause?.code ?? name
}
