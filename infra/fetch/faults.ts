import { excerpt, type ImageCode, ImageError, TurbineError } from '../errors.ts'
import { s3Answer } from '../store/s3-errors.ts'

type Details = ConstructorParameters<typeof ImageError>[2]

const fault = (code: ImageCode, message: string, details?: Details) =>
  new ImageError(code, message, { param: 'image_url', ...details })

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

  badStatus: (status: number) =>
    fault(
      statusCodes[status] ?? 'image_url_status',
      `The image address answered with status ${status}. Check that it is right and public.`,
      { retriable: status >= 500 || status === 429 || status === 408 },
    ),

  badType: (type: string) =>
    fault(
      'image_url_content_type',
      `The image address answered with ${excerpt(type) || 'an empty content type'}. Use an address that answers with image/*.`,
    ),

  tooLarge: (maxBytes: number) =>
    fault('image_url_too_large', `The image has more than ${maxBytes} bytes. Scale it down or compress it.`),

  timedOut: (timeoutMs: number) =>
    fault(
      'image_url_timeout',
      `The image address did not deliver within ${timeoutMs} ms. Use a faster one, or send the image itself.`,
      { retriable: true },
    ),

  unreachable: (cause: unknown) => {
    const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : ''
    return fault(
      'image_url_unreachable',
      `The image address cannot be reached${code}. Check that it opens from outside of your network.`,
      { retriable: true, cause },
    )
  },

  noPlace: () =>
    new TurbineError('Too many images are being fetched. Retry the request, or send the image itself.', {
      status: 429,
      code: 'too_many_fetches',
      param: 'image_url',
      retryAfterSeconds: 1,
    }),

  notAnswering: (failures: number, leftMs: number, cause: ImageError) =>
    fault(
      'image_url_unreachable',
      `The host of the image address failed ${failures} times in a row and is left alone for a while: ${cause.message}`,
      { retriable: true, retryAfterSeconds: Math.ceil(leftMs / 1000), cause },
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

  /** S3 cannot give the object out now. */
  unavailableObject: (uri: string, reason: string, cause: unknown) =>
    fault(
      'image_unavailable',
      `S3 cannot deliver ${excerpt(uri, 120)} now: ${reason}. Retry later, or send the image itself.`,
      { status: 503, retriable: true, retryAfterSeconds: 1, cause },
    ),
}

/** Error of a service that runs without S3. */
export const s3Unavailable = (param: string) =>
  new TurbineError('This service has no S3. Ask its operator to set S3_ENDPOINT, or send the data itself.', {
    status: 400,
    code: 's3_unavailable',
    param,
  })
