/** Base of the errors that Turbine throws: named by their class. `retriable`: the same can succeed later. */
export class BaseError extends Error {
  override readonly name: string = this.constructor.name
  readonly retriable: boolean = false
}

/** `type` of an error in OpenAI's shape. */
export type ErrorType =
  | 'invalid_request_error'
  | 'not_found_error'
  | 'rate_limit_error'
  | 'overloaded_error'
  | 'server_error'

export interface ErrorDetails {
  /** HTTP status of the answer. */
  status: 400 | 401 | 403 | 404 | 405 | 408 | 409 | 413 | 415 | 416 | 422 | 429 | 500 | 503
  type?: ErrorType
  /** Stable, machine-readable name, e.g. `image_invalid`. */
  code: string
  /** The request field at fault, e.g. `turbine.max_prune`. */
  param?: string
  /** Seconds after which a repeat makes sense; sent as `Retry-After`. */
  retryAfterSeconds?: number
  /** True when the same request can succeed later. */
  retriable?: boolean
  cause?: unknown
}

/** Error on the wire and in the store, in OpenAI's shape. */
export interface ErrorBody {
  error: { message: string; type: ErrorType; param: string | null; code: string }
}

const typeOf = (status: number): ErrorType => {
  if (status === 404) return 'not_found_error'
  if (status === 429) return 'rate_limit_error'
  if (status === 503) return 'overloaded_error'
  return status >= 500 ? 'server_error' : 'invalid_request_error'
}

/**
 * An error that a caller may see. The message says what is wrong and what to do about it.
 *
 * @example throw new TurbineError('There is no file "a". Upload it: POST /v1/files.', { status: 404, code: 'file_not_found' })
 */
export class TurbineError extends BaseError {
  readonly status: ErrorDetails['status']
  readonly type: ErrorType
  readonly code: string
  readonly param: string | null
  readonly retryAfterSeconds: number | undefined
  override readonly retriable: boolean

  constructor(message: string, details: ErrorDetails) {
    super(message, details.cause === undefined ? undefined : { cause: details.cause })
    this.status = details.status
    this.type = details.type ?? typeOf(details.status)
    this.code = details.code
    this.param = details.param ?? null
    this.retryAfterSeconds = details.retryAfterSeconds
    this.retriable = details.retriable ?? (details.status === 429 || details.status >= 500)
  }

  toBody(): ErrorBody {
    return { error: { message: this.message, type: this.type, param: this.param, code: this.code } }
  }
}

/**
 * The beginning of a text from outside, for a message: an error repeats at most 200 characters of what it is about.
 * @example excerpt('x'.repeat(1000)).length // 80
 */
export const excerpt = (text: string, maxCharacters = 80) =>
  text.length > maxCharacters ? `${text.slice(0, maxCharacters - 1)}…` : text

export type ImageCode =
  | 'image_forbidden'
  | 'image_host_rate_limited'
  | 'image_invalid'
  | 'image_not_found'
  | 'image_too_complex'
  | 'image_too_large'
  | 'image_unavailable'
  | 'image_unreadable'
  | 'image_url_content_type'
  | 'image_url_invalid'
  | 'image_url_private'
  | 'image_url_redirects'
  | 'image_url_status'
  | 'image_url_timeout'
  | 'image_url_too_large'
  | 'image_url_unreachable'

/** Invalid image, or image address. Status 400 by default. */
export class ImageError extends TurbineError {
  constructor(
    code: ImageCode,
    message: string,
    details: Partial<
      Pick<ErrorDetails, 'status' | 'param' | 'retriable' | 'retryAfterSeconds' | 'cause'>
    > = {},
  ) {
    super(message, { status: 400, ...details, code })
  }
}
