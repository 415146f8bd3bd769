import { excerpt, type ImageCode, ImageError, TurbineError } from '../errors.ts'
import { s3Answer } from '../store/s3-errors.ts'
import type { Lesson } from './host-pace.ts'

type Details = ConstructorParameters<typeof ImageError>[2]

const fault = (code: ImageCode, message: string, details?: Details) =>
  new ImageError(code, message, { param: 'image_url', ...details })

/** Passing fault of an image's host, and what it says of how the host wants to be asked. */
export class HostFault extends ImageError {
  // For callers it is an error of their image.
  override readonly name = 'ImageError'
  readonly lesson: Lesson

  constructor(code: ImageCode, message: string, { lesson, ...details }: Details & { lesson: Lesson }) {
    super(code, message, { param: 'image_url', status: 503, retriable: true, ...details })
    this.lesson = lesson
  }
}

/** For callers, where the host names no time, s. */
const soonSeconds = 1
/** The same where it does not answer. */
const laterSeconds = 5

const seconds = (ms: number) => Math.max(1, Math.ceil(ms / 1000))

const statusCodes: Partial<Record<number, ImageCode>> = {
  401: 'image_forbidden',
  403: 'image_forbidden',
  404: 'image_not_found',
  410: 'image_not_found',
}

/** Errors of image addresses; their messages leave the address out, which may be secret. */
export const imageFaults = {
  invalid: (what: string, cause?: unknown) => fault('image_url_invalid', what, { cause }),

  refused: () =>
    fault(
      'image_url_private',
      'The image address leads into a private network. Use a public address, or send the image itself.',
    ),

  tooManyRedirects: (max: number) =>
    fault(
      'image_url_redirects',
      `The image address redirects more than ${max} times. Use the address that it ends at.`,
    ),

  /** @param afterMs what its `Retry-After` asks for */
  badStatus: ({ status, host, afterMs }: { status: number; host: string; afterMs?: number }) => {
    const after = afterMs === undefined ? '' : `, Retry-After: ${seconds(afterMs)} s`
    const retryAfterSeconds = afterMs === undefined ? soonSeconds : seconds(afterMs)
    const asksForLess = status === 429 || status === 503 || (afterMs !== undefined && isPassingStatus(status))
    const lesson: Lesson = asksForLess ? { kind: 'less', afterMs } : { kind: 'fault' }
    const answered = `The image's host ${excerpt(host)} answered with status ${status}`
    if (status === 429)
      return new HostFault(
        'image_host_rate_limited',
        `${answered} (too many requests${after}). Retry later.`,
        {
          ...{ status: 429, lesson, retryAfterSeconds },
        },
      )
    if (isPassingStatus(status))
      return new HostFault(
        'image_url_status',
        `${answered}${after && ` (${after.slice(2)})`}. Retry later, or send the image itself.`,
        { lesson, retryAfterSeconds },
      )
    return fault(
      statusCodes[status] ?? 'image_url_status',
      `The image address answered with status ${status}. Check that it is right and public.`,
    )
  },

  /** The bytes are a page, whatever its type says. */
  webPage: () =>
    fault(
      'image_url_content_type',
      'The image address answered with a web page, not with an image. Use the address of the image itself: open the page, and copy the address of its image.',
    ),

  /** Its `Content-Encoding` cannot be undone. */
  damaged: (cause: unknown) =>
    fault(
      'image_invalid',
      'The image is compressed for its way, but damaged. Check that its address opens in a browser.',
      {
        cause,
      },
    ),

  badType: (type: string) =>
    fault(
      'image_url_content_type',
      `The image address answered with ${excerpt(type) || 'text'}, not with an image. Use the address of the image itself.`,
    ),

  tooLarge: (maxBytes: number) =>
    fault('image_url_too_large', `The image has more than ${maxBytes} bytes. Scale it down or compress it.`),

  timedOut: (timeoutMs: number) =>
    new HostFault(
      'image_url_timeout',
      `The image address did not deliver within ${timeoutMs} ms. Use a faster one, or send the image itself.`,
      { lesson: { kind: 'silence' }, retryAfterSeconds: laterSeconds },
    ),

  /** It cannot be connected to, or broke off: one that may pass, or a fault of its name, certificate or protocol. */
  unreachable: (cause: unknown) => {
    const says = reasonOf(cause)
    const reason = says === undefined ? '' : ` (${excerpt(says)})`
    const message = `The image address cannot be reached${reason}. Check that it opens from outside of your network.`
    return says !== undefined && (lastingCodes.test(says) || lastingMessages.test(says))
      ? fault('image_url_unreachable', message, { cause })
      : new HostFault('image_url_unreachable', message, {
          ...{ lesson: { kind: 'silence' }, retryAfterSeconds: laterSeconds, cause },
        })
  },

  noPlace: () =>
    new TurbineError('Too many images are being fetched. Retry the request, or send the image itself.', {
      status: 429,
      code: 'too_many_fetches',
      param: 'image_url',
      retryAfterSeconds: 1,
    }),

  /** A host that is left alone for now, or asked slowly, because of what it failed with. */
  leftAlone: (host: string, leftMs: number, cause: ImageError) =>
    new ImageError(
      cause.code as ImageCode,
      `The host ${excerpt(host)} is ${leftMs > 0 ? `left alone for ${seconds(leftMs)} s` : 'asked slowly'}: ${cause.message}`,
      {
        ...{ status: cause.status, param: 'image_url', retriable: true, cause },
        retryAfterSeconds: leftMs > 0 ? seconds(leftMs) : cause.retryAfterSeconds,
      },
    ),

  /** A passing fault that has lasted for so long that it is taken for good. */
  givenUp: (cause: ImageError, ms: number) =>
    new ImageError(
      cause.code as ImageCode,
      `Given up after ${Math.round(ms / 1000)} s of failures: ${cause.message}`,
      { status: cause.status, param: 'image_url', retriable: false, cause },
    ),

  noObject: (uri: string) => fault('image_not_found', `There is no object at ${excerpt(uri, 120)}.`),

  noBucket: (bucket: string, cause: unknown) =>
    fault(
      'image_not_found',
      `The service's S3 has no bucket "${bucket}". Create it there, or name an image in another bucket. S3 said: ${s3Answer(cause)}.`,
      { cause },
    ),

  closedBucket: (bucket: string, cause: unknown) =>
    fault(
      'image_forbidden',
      `The service may not read the bucket "${bucket}". Allow its S3 user to read there, or name an image in another bucket. S3 said: ${s3Answer(cause)}.`,
      { cause },
    ),

  /** S3 will not give the object out, however often it is asked. */
  refusedObject: (uri: string, cause: unknown) =>
    fault(
      'image_unreadable',
      `S3 does not give out ${excerpt(uri, 120)}: ${s3Answer(cause)}. Check its storage class, its encryption and its key, or send the image itself.`,
      { cause },
    ),

  encodedObject: (uri: string, encoding: string) =>
    fault(
      'image_unreadable',
      `${excerpt(uri, 120)} has the Content-Encoding ${excerpt(encoding)}, which cannot be undone here. Store the image as it is.`,
    ),

  /** S3 cannot give the object out now. */
  unavailableObject: (uri: string, reason: string, { cause, lesson }: { cause: unknown; lesson: Lesson }) =>
    new HostFault(
      'image_unavailable',
      `S3 cannot deliver ${excerpt(uri, 120)} now: ${reason}. Retry later, or send the image itself.`,
      { lesson, retryAfterSeconds: soonSeconds, cause },
    ),
}

/** Statuses after which the same request can succeed: too early, a time limit, and faults of the server. */
const isPassingStatus = (status: number) =>
  status === 408 || status === 425 || status === 429 || (status >= 500 && status !== 501 && status !== 505)

/**
 * Codes of connections that fail for good: no such name, certificates, protocols. A name server that fails, and a
 * connection that is refused or reset, may recover.
 */
const lastingCodes =
  /^(ENOTFOUND|ENODATA|ENONAME|EBADNAME|EAI_NONAME|EAI_NODATA|EPROTO$|EADDRNOTAVAIL|CERT_|ERR_TLS_|ERR_SSL_|ERR_INVALID_|DEPTH_ZERO_|SELF_SIGNED_|UNABLE_TO_|HOSTNAME_MISMATCH|INVALID_CA|PATH_LENGTH|INVALID_PURPOSE|HPE_|UND_ERR_HEADERS_OVERFLOW|UND_ERR_INVALID_ARG|UND_ERR_NOT_SUPPORTED)/

/** Errors that `fetch` gives no code: a port that browsers refuse, and what is not HTTP. */
const lastingMessages = /^(bad port|too many content-encodings|Response does not match the HTTP)/

/** The code of an error, or what it says where that is known. */
function reasonOf(cause: unknown): string | undefined {
  if (!(cause instanceof Error)) return undefined
  if ('code' in cause && cause.code !== undefined) return String(cause.code)
  return lastingMessages.test(cause.message) ? cause.message : undefined
}

/** Error of a service that runs without S3. */
export const s3Unavailable = (param: string) =>
  new TurbineError('This service has no S3. Ask its operator to set S3_ENDPOINT, or send the data itself.', {
    status: 400,
    code: 's3_unavailable',
    param,
  })
