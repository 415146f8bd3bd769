import type { z } from 'zod'
import { backoffMs, isRetriable, retry, retryAfterMs } from '../../../infra/retry.ts'
import { UsageError } from '../errors.ts'

export interface ConnectionOptions {
  /** Where the service is, e.g. `http://127.0.0.1:8787`. */
  url: string
  apiKey?: string
  /** Ends every request and every pause; requests then reject with its reason. */
  signal?: AbortSignal
  /** Told once when the service stops answering, and once when it answers again. */
  tell?(text: string): void
  fetch?: typeof fetch
  /** Waits between tries, ms. */
  sleep?(ms: number, signal: AbortSignal): Promise<unknown>
}

export interface ClientRequest {
  method?: 'GET' | 'POST'
  path: string
  /** An object goes as JSON. */
  body?: FormData | object
  headers?: Record<string, string>
  /** Sum of the pauses between tries at most, ms; default 90,000, enough for a restart of what is behind it. */
  patienceMs?: number
  /** Whether it is sent even when `signal` has aborted. */
  afterInterruption?: boolean
}

const defaultPatienceMs = 90_000
/** An answer in JSON takes no longer, ms; a large body is the exception and has no limit of its own. */
const answerTimeoutMs = 60_000

/**
 * The address of a service as people write it: without a slash at the end, and without the `/v1` that OpenAI's
 * clients want there.
 * @throws UsageError
 */
export function parseServiceUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new UsageError(
      `"${text}" is no address of a service. Give one like http://127.0.0.1:8787 with --url or TURBINE_URL.`,
    )
  if (url.username !== '' || url.password !== '')
    throw new UsageError('An address does not hold a key or a password. Set TURBINE_API_KEY.')
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '').replace(/\/v1$/, '')
}

/**
 * Sends requests to one service, again where a repeat makes sense: with the pauses that the service asks for, else
 * growing ones. A service that never answered yet is not waited for: its address is wrong, or it is not started.
 */
export class Connection {
  readonly url: string
  readonly #options: ConnectionOptions
  readonly #signal: AbortSignal
  #answered = false
  #inTrouble = false

  /** @throws UsageError when the address is none. */
  constructor(options: ConnectionOptions) {
    this.url = parseServiceUrl(options.url)
    this.#options = options
    this.#signal = options.signal ?? new AbortController().signal
  }

  /** @throws ServiceError, UnreachableError */
  json<Schema extends z.ZodType>(ask: ClientRequest, schema: Schema): Promise<z.output<Schema>> {
    return this.#persist(ask, async () => {
      const timeout = ask.body instanceof FormData ? [] : [AbortSignal.timeout(answerTimeoutMs)]
      const response = await this.#fetch(ask, timeout)
      const parsed = schema.safeParse(parseJson(await response.text()))
      if (!parsed.success) throw foreignAnswer(response, this.url)
      return parsed.data
    })
  }

  /** The answer with its body still to be read. @throws ServiceError, UnreachableError */
  open(ask: ClientRequest): Promise<Response> {
    return this.#persist(ask, () => this.#fetch(ask, []))
  }

  async #fetch(ask: ClientRequest, signals: AbortSignal[]): Promise<Response> {
    const { method = 'GET', path, body, afterInterruption = false } = ask
    const { apiKey, fetch: send = fetch } = this.#options
    const headers = new Headers(ask.headers)
    if (apiKey !== undefined) headers.set('authorization', `Bearer ${apiKey}`)
    const isForm = body instanceof FormData
    if (body && !isForm) headers.set('content-type', 'application/json')
    const response = await send(`${this.url}${path}`, {
      method,
      headers,
      body: isForm ? body : body && JSON.stringify(body),
      // Followed, a POST would become a GET.
      redirect: 'manual',
      signal: AbortSignal.any(afterInterruption ? signals : [this.#signal, ...signals]),
    })
    if (!response.ok) throw await errorOfResponse(response, this.url)
    return response
  }

  async #persist<T>(ask: ClientRequest, attempt: () => Promise<T>): Promise<T> {
    const { patienceMs = defaultPatienceMs, afterInterruption = false } = ask
    let leftMs = patienceMs
    const attemptOnce = () =>
      attempt().catch((cause: unknown) => {
        if (!afterInterruption) this.#signal.throwIfAborted()
        if (!(cause instanceof ServiceError)) throw new UnreachableError(this.url, cause)
        this.#answered = true
        throw cause
      })
    const value = await retry(attemptOnce, {
      retriable: (error, failures) => {
        leftMs -= pauseBeforeRetry(failures, error)
        return isRetriable(error) && this.#answered && leftMs >= 0
      },
      pauseMs: pauseBeforeRetry,
      signal: this.#signal,
      onFailure: (error) => this.#hasFailed(error),
      sleep: this.#options.sleep,
    })
    this.#hasAnswered()
    return value
  }

  #hasAnswered(): void {
    this.#answered = true
    if (this.#inTrouble) this.#options.tell?.('The service answers again.')
    this.#inTrouble = false
  }

  #hasFailed(error: unknown): void {
    if (!this.#inTrouble) this.#options.tell?.(`${problemOf(error, this.url)} Trying again until it does.`)
    this.#inTrouble = true
  }
}

const pauseBeforeRetry = (failures: number, error: unknown) =>
  Math.max(retryAfterMs(error) ?? 0, backoffMs(failures))

const problemOf = (error: unknown, url: string) =>
  error instanceof ServiceError
    ? `The service cannot answer now: ${error.message}`
    : `The service at ${url} does not answer.`

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** The service answered, and its answer is no: the message is its own, with a remedy for a terminal. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError'
  /** HTTP status. */
  readonly status: number
  /** The service's name for what is wrong, e.g. `batch_not_found`; `foreign_answer` where it is not Turbine's. */
  readonly code: string
  /** Whether the same request can succeed later. */
  readonly retriable: boolean
  /** The pause that the service asks for, ms. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, details: { status: number; code: string; retryAfterMs?: number }) {
    super(message)
    this.status = details.status
    this.code = details.code
    this.retriable = retriableStatuses.has(details.status)
    this.retryAfterMs = details.retryAfterMs
  }
}

/** Every request of the client may be repeated: what creates something carries an idempotency key. */
const retriableStatuses = new Set([408, 429, 500, 502, 503, 504])

/** Nothing answered, or the answer broke off. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
  readonly code = 'service_unreachable'
  readonly retriable = true

  constructor(url: string, cause: unknown) {
    super(
      `Nothing answers at ${url} (${reasonOf(cause)}). Start a service with "npx turbine serve", or name another ` +
        'one with --url or TURBINE_URL.',
      { cause },
    )
  }
}

/** Fetch says "fetch failed"; what happened is in its cause. */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return 'timeout'
  if (error.cause instanceof Error) return reasonOf(error.cause)
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message
}

/** An answer that is not 2xx as an error. */
async function errorOfResponse(response: Response, url: string): Promise<ServiceError> {
  const { status } = response
  const text = await response.text()
  const error = parseError(text)
  if (!error) return foreignAnswer(response, url)
  const remedy = status === 401 ? ' Set TURBINE_API_KEY to a key of this service.' : ''
  const seconds = Number(response.headers.get('retry-after') ?? Number.NaN)
  return new ServiceError(`${error.message}${remedy}`, {
    status,
    code: error.code ?? 'unknown',
    retryAfterMs: Number.isFinite(seconds) ? seconds * 1000 : undefined,
  })
}

/** OpenAI's shape: `{"error": {"message", "type", "param", "code"}}`. */
function parseError(text: string): { message: string; code?: string } | undefined {
  try {
    const { message, code } = JSON.parse(text).error
    if (typeof message === 'string') return { message, code: typeof code === 'string' ? code : undefined }
  } catch {
    // A proxy's page, or nothing at all.
  }
  return undefined
}

/** Whatever stands between, or something else than Turbine, has answered. */
function foreignAnswer(response: Response, url: string): ServiceError {
  const location = response.headers.get('location')
  const problem =
    location === null
      ? `${url} answered ${response.status} ${response.statusText}`.trim()
      : `${url} sends callers on to ${location}`
  return new ServiceError(`${problem}, which is not an answer of Turbine. Check --url or TURBINE_URL.`, {
    status: response.status,
    code: 'foreign_answer',
  })
}
