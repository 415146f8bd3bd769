export type ImageFetchCode =
  | 'image_url_content_type'
  | 'image_url_invalid'
  | 'image_url_private'
  | 'image_url_redirects'
  | 'image_url_status'
  | 'image_url_timeout'
  | 'image_url_too_large'
  | 'image_url_unreachable'

interface FaultDetails {
  retriable?: boolean
  /** HTTP status that the address answered with. */
  status?: number
  cause?: unknown
}

/** An image address could not be fetched. The message says why and what to do, without the address. */
export class ImageFetchError extends Error {
  override readonly name = 'ImageFetchError'
  /** Stable, machine-readable name. */
  readonly code: ImageFetchCode
  /** Whether the same address can work later. */
  readonly retriable: boolean
  /** HTTP status that the address answered with, where that is what is wrong. */
  readonly status: number | undefined

  constructor(
    code: ImageFetchCode,
    message: string,
    { retriable = false, status, cause }: FaultDetails = {},
  ) {
    super(message, cause === undefined ? undefined : { cause })
    this.code = code
    this.retriable = retriable
    this.status = status
  }
}

/** Everything that can be wrong with an image address, in the same words wherever it is fetched. */
export const imageFetchFaults = {
  invalid: (what: string) => new ImageFetchError('image_url_invalid', `The image address ${what}.`),

  refused: () =>
    new ImageFetchError(
      'image_url_private',
      'The image address leads into a private network. Use a public address, or send the image itself.',
    ),

  tooManyRedirects: (max: number) =>
    new ImageFetchError(
      'image_url_redirects',
      `The image address redirects more than ${max} times. Use the address that it ends at.`,
    ),

  badStatus: (status: number) =>
    new ImageFetchError(
      'image_url_status',
      `The image address answered with status ${status}. Check that it is right and public.`,
      { retriable: status >= 500 || status === 429 || status === 408, status },
    ),

  badType: (type: string) =>
    new ImageFetchError(
      'image_url_content_type',
      `The image address answered with ${type.slice(0, 100) || 'an empty content type'}. Use an address that answers with image/*.`,
    ),

  tooLarge: (maxBytes: number) =>
    new ImageFetchError(
      'image_url_too_large',
      `The image at the address has more than ${maxBytes} bytes. Use a smaller one.`,
    ),

  timedOut: (timeoutMs: number) =>
    new ImageFetchError(
      'image_url_timeout',
      `The image address did not deliver within ${timeoutMs} ms. Use a faster one, or send the image itself.`,
      { retriable: true },
    ),

  unreachable: (cause: unknown) => {
    const code = cause instanceof Error && 'code' in cause ? ` (${String(cause.code)})` : ''
    return new ImageFetchError(
      'image_url_unreachable',
      `The image address cannot be reached${code}. Check that it opens from outside of your network.`,
      { retriable: true, cause },
    )
  },
}
