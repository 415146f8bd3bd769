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
export async function errorOfResponse(response: Response, url: string): Promise<ServiceError> {
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
export function foreignAnswer(response: Response, url: string): ServiceError {
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
