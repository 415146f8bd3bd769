import { z } from 'zod'
import { excerpt } from '../../../edge/contract/errors.ts'
import { backoffMs, isRetriable, parseRetryAfter, retry, retryAfterMs } from '../../../infra/retry.ts'
import { UsageError } from '../errors.ts'

export interface ConnectionOptions {
  /** Base URL of the service, e.g. `http://127.0.0.1:8787`. */
  url: string
  apiKey?: string
  /** Aborts requests and pauses; requests then reject with its reason. */
  signal?: AbortSignal
  /** Receives one note when the service stops responding and one when it responds again. */
  onNote?(text: string): void
  fetch?: typeof fetch
  /** Pauses between retries, ms. */
  sleep?(ms: number, signal: AbortSignal): Promise<unknown>
}

export interface ClientRequest {
  method?: 'GET' | 'POST'
  path: string
  /** Sent as JSON unless it is a form. */
  body?: FormData | object
  headers?: Record<string, string>
  /** Total pause between retries at most, ms; default 90,000, enough for a restart of the service. */
  maxWaitMs?: number
  /** Sends the request even after `signal` has aborted. */
  afterInterruption?: boolean
}

const defaultMaxWaitMs = 90_000
/** Timeout of a JSON response, ms. Uploads and downloads have none. */
const responseTimeoutMs = 60_000

/**
 * Normalizes the URL of a service: without a trailing slash, and without the `/v1` that OpenAI's clients need.
 * @throws UsageError
 */
export function parseServiceUrl(text: string): string {
  const url = URL.canParse(text) ? new URL(text) : undefined
  if (url?.protocol !== 'http:' && url?.protocol !== 'https:')
    throw new UsageError(
      `"${text}" is not the URL of a service. Use one like http://127.0.0.1:8787 with --url or TURBINE_URL.`,
    )
  if (url.username !== '' || url.password !== '')
    throw new UsageError('The URL of a service must not contain credentials. Set TURBINE_API_KEY.')
  return `${url.origin}${url.pathname}`.replace(/\/+$/, '').replace(/\/v1$/, '')
}

/**
 * Sends requests to one service and retries them with backoff, or after `Retry-After`. A service that has never responded is
 * not retried: its URL is wrong, or it is not running.
 */
export class Connection {
  readonly url: string
  readonly #options: ConnectionOptions
  readonly #signal: AbortSignal
  #responded = false
  #failing = false

  /** @throws UsageError for an invalid `url` */
  constructor(options: ConnectionOptions) {
    this.url = parseServiceUrl(options.url)
    this.#options = options
    this.#signal = options.signal ?? new AbortController().signal
  }

  /** @throws ServiceError, UnreachableError */
  json<Schema extends z.ZodType>(request: ClientRequest, schema: Schema): Promise<z.output<Schema>> {
    return this.#retry(request, async () => {
      const timeout = request.body instanceof FormData ? [] : [AbortSignal.timeout(responseTimeoutMs)]
      const response = await this.#fetch(request, timeout)
      const parsed = schema.safeParse(parseJson(await response.text()))
      if (!parsed.success) throw foreignResponse(response, this.url)
      return parsed.data
    })
  }

  /** Returns the response with its body unread. @throws ServiceError, UnreachableError */
  open(request: ClientRequest): Promise<Response> {
    return this.#retry(request, () => this.#fetch(request, []))
  }

  async #fetch(request: ClientRequest, signals: AbortSignal[]): Promise<Response> {
    const { method = 'GET', path, body, afterInterruption = false } = request
    const { apiKey, fetch: send = fetch } = this.#options
    const headers = new Headers(request.headers)
    if (apiKey !== undefined) headers.set('authorization', `Bearer ${apiKey}`)
    const isForm = body instanceof FormData
    if (body && !isForm) headers.set('content-type', 'application/json')
    const response = await send(`${this.url}${path}`, {
      method,
      headers,
      body: isForm ? body : body && JSON.stringify(body),
      // Following a redirect would turn a POST into a GET.
      redirect: 'manual',
      signal: AbortSignal.any(afterInterruption ? signals : [this.#signal, ...signals]),
    })
    if (!response.ok) throw await errorOfResponse(response, this.url)
    return response
  }

  async #retry<T>(
    { maxWaitMs = defaultMaxWaitMs, afterInterruption = false }: ClientRequest,
    work: () => Promise<T>,
  ): Promise<T> {
    let leftMs = maxWaitMs
    const attempt = () =>
      work().catch((cause: unknown) => {
        if (!afterInterruption) this.#signal.throwIfAborted()
        if (!(cause instanceof ServiceError)) throw new UnreachableError(this.url, cause)
        this.#responded = true
        throw cause
      })
    const value = await retry(attempt, {
      retriable: (error, failures) => {
        leftMs -= pauseBeforeRetry(failures, error)
        return isRetriable(error) && this.#responded && leftMs >= 0
      },
      pauseMs: pauseBeforeRetry,
      signal: this.#signal,
      onFailure: (error) => {
        if (!this.#failing) this.#options.onNote?.(`${problemOf(error, this.url)} Retrying.`)
        this.#failing = true
      },
      sleep: this.#options.sleep,
    })
    if (this.#failing) this.#options.onNote?.('The service is back.')
    this.#responded = true
    this.#failing = false
    return value
  }
}

const pauseBeforeRetry = (failures: number, error: unknown) =>
  Math.max(retryAfterMs(error) ?? 0, backoffMs(failures))

const problemOf = (error: unknown, url: string) =>
  error instanceof ServiceError
    ? `The service is unavailable: ${error.message}`
    : `The service at ${url} is not responding.`

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

/** Error response of the service, with its message and a remedy for the command line. */
export class ServiceError extends Error {
  override readonly name = 'ServiceError'
  /** HTTP status. */
  readonly status: number
  /** Error code of the service, e.g. `batch_not_found`; `foreign_answer` for a response that is not Turbine's. */
  readonly code: string
  readonly retriable: boolean
  /** `Retry-After` of the response, ms. */
  readonly retryAfterMs: number | undefined

  constructor(message: string, details: { status: number; code: string; retryAfterMs?: number }) {
    super(message)
    this.status = details.status
    this.code = details.code
    this.retriable = retriableStatuses.has(details.status)
    this.retryAfterMs = details.retryAfterMs
  }
}

/** Every request can be retried: those that create something carry an idempotency key. */
const retriableStatuses = new Set([408, 429, 500, 502, 503, 504])

/** No response, or an incomplete one. */
export class UnreachableError extends Error {
  override readonly name = 'UnreachableError'
  readonly code = 'service_unreachable'
  readonly retriable = true

  constructor(url: string, cause: unknown) {
    super(
      `No service is reachable at ${url} (${reasonOf(cause)}). Start one with "npx turbine serve", or set --url or ` +
        'TURBINE_URL.',
      { cause },
    )
  }
}

/** Names the root cause: fetch itself only says "fetch failed". */
function reasonOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error.name === 'TimeoutError') return 'timeout'
  if (error.cause instanceof Error) return reasonOf(error.cause)
  return 'code' in error && typeof error.code === 'string' ? error.code : error.message
}

/** Makes an error of a response that is not 2xx. */
async function errorOfResponse(response: Response, url: string): Promise<ServiceError> {
  const { status } = response
  const parsed = errorSchema.safeParse(parseJson(await response.text()))
  if (!parsed.success) return foreignResponse(response, url)
  const { message, code } = parsed.data.error
  const remedy = status === 401 ? ' Set TURBINE_API_KEY to a key of this service.' : ''
  return new ServiceError(`${message}${remedy}`, {
    status,
    code,
    retryAfterMs: parseRetryAfter(response.headers.get('retry-after')),
  })
}

/** OpenAI's error body, as far as it is used. */
const errorSchema = z.object({ error: z.object({ message: z.string(), code: z.string().catch('unknown') }) })

/** Makes an error of a response that a proxy, or another server than Turbine, has sent. */
function foreignResponse(response: Response, url: string): ServiceError {
  const location = response.headers.get('location')
  const problem =
    location === null
      ? `${url} responded ${response.status} ${response.statusText}`.trim()
      : `${url} redirects to ${excerpt(location, 200)}`
  return new ServiceError(`${problem}, which is not a response of Turbine. Check --url or TURBINE_URL.`, {
    status: response.status,
    code: 'foreign_answer',
  })
}
