import { Agent, type Dispatcher, request } from 'undici'
import {
  type AddressPolicy,
  guardedConnector,
  type Lookup,
  RefusedAddressError,
} from './guarded-connector.ts'
import { anyAddress, isPublicAddress } from './public-address.ts'

export type ImageFetchCode =
  | 'image_url_content_type'
  | 'image_url_invalid'
  | 'image_url_private'
  | 'image_url_redirects'
  | 'image_url_status'
  | 'image_url_timeout'
  | 'image_url_too_large'
  | 'image_url_unreachable'

/** An image address could not be fetched. The message says why and what to do, without the address. */
export class ImageFetchError extends Error {
  override readonly name = 'ImageFetchError'
  /** Stable, machine-readable name. */
  readonly code: ImageFetchCode
  /** Whether the same address can work later. */
  readonly retriable: boolean

  constructor(code: ImageFetchCode, message: string, options: { retriable?: boolean; cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause })
    this.code = code
    this.retriable = options.retriable ?? false
  }
}

export interface ImageFetcherOptions {
  /** Bytes of an image at most. */
  maxBytes: number
  /** Time for everything, redirects included, ms; default 10,000. */
  timeoutMs?: number
  /** Default 3. */
  maxRedirects?: number
  /** Allows private addresses and http; default false. */
  allowPrivate?: boolean
  /** Which addresses may be connected to; default: public ones, or all with `allowPrivate`. */
  allows?: AddressPolicy
  /** Schemes of addresses; default: https, with `allowPrivate` http too. */
  schemes?: string[]
  /** Resolves names; default: the system's resolver. */
  lookup?: Lookup
}

export interface FetchedImage {
  bytes: Uint8Array
  contentType: string
}

export interface ImageFetcher {
  /**
   * Fetches the image at an address that a caller gave.
   * @throws ImageFetchError; the signal's reason when it aborts.
   */
  fetch(url: string, options?: { signal?: AbortSignal }): Promise<FetchedImage>
  /** Ends the connections. */
  close(): Promise<void>
}

/**
 * Makes a fetcher that takes nobody's word for where an address leads: each address connected to is checked, those
 * of redirects too, before anything is sent.
 *
 * @example
 * const images = createImageFetcher({ maxBytes: 20 * 1024 * 1024 })
 * const { bytes } = await images.fetch('https://example.com/photo.jpg')
 */
export function createImageFetcher(options: ImageFetcherOptions): ImageFetcher {
  const { maxBytes, timeoutMs = 10_000, maxRedirects = 3, allowPrivate = false, lookup } = options
  const { allows = allowPrivate ? anyAddress : isPublicAddress } = options
  const { schemes = allowPrivate ? ['https', 'http'] : ['https'] } = options
  const agent = new Agent({ connect: guardedConnector({ allows, lookup, timeoutMs }) })

  async function fetchWithin(signal: AbortSignal, address: string): Promise<FetchedImage> {
    let url = parseAddress(address, schemes)
    for (let redirects = 0; ; redirects++) {
      const response = await request(url, { dispatcher: agent, signal, headers: requestHeaders })
      const location = redirectOf(response)
      if (location === undefined) return readImage(response, maxBytes)
      discard(response)
      if (redirects === maxRedirects) throw tooManyRedirects(maxRedirects)
      url = parseAddress(location, schemes, url)
    }
  }

  return {
    async fetch(address, { signal } = {}) {
      const deadline = AbortSignal.timeout(timeoutMs)
      try {
        return await fetchWithin(signal ? AbortSignal.any([deadline, signal]) : deadline, address)
      } catch (error) {
        signal?.throwIfAborted()
        throw deadline.aborted ? timedOut(timeoutMs) : asFetchError(error)
      }
    },
    close: () => agent.destroy(),
  }
}

const requestHeaders = { 'user-agent': 'turbine', accept: 'image/*', 'accept-encoding': 'identity' }
const redirectStatuses = new Set([301, 302, 303, 307, 308])
const acceptedTypes = /^(image\/[\w.+-]+|(application|binary)\/octet-stream)$/

function parseAddress(address: string, schemes: string[], base?: URL): URL {
  const url = URL.parse(address, base?.href)
  if (!url) throw invalid('is not an address. Send an https address or a data: URL')
  if (!schemes.includes(url.protocol.slice(0, -1)))
    throw invalid(`leads to ${url.protocol.slice(0, -1)}; only ${schemes.join(' and ')} can be fetched`)
  if (url.username || url.password) throw invalid('has a user name or password. Leave them out')
  return url
}

function redirectOf({ statusCode, headers }: Dispatcher.ResponseData): string | undefined {
  const { location } = headers
  return redirectStatuses.has(statusCode) && location !== undefined ? String(location) : undefined
}

async function readImage(response: Dispatcher.ResponseData, maxBytes: number): Promise<FetchedImage> {
  const contentType = contentTypeOf(response)
  const fault = faultOf(response, contentType, maxBytes)
  if (fault) {
    discard(response)
    throw fault
  }
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of response.body) {
    size += chunk.byteLength
    if (size > maxBytes) throw tooLarge(maxBytes)
    chunks.push(chunk)
  }
  return { bytes: Buffer.concat(chunks), contentType }
}

/** What can be said against a response before its body is read. */
function faultOf(
  { statusCode, headers }: Dispatcher.ResponseData,
  contentType: string,
  maxBytes: number,
): ImageFetchError | undefined {
  if (statusCode !== 200) return badStatus(statusCode)
  if (!acceptedTypes.test(contentType)) return badType(contentType)
  return Number(headers['content-length'] ?? 0) > maxBytes ? tooLarge(maxBytes) : undefined
}

function contentTypeOf({ headers }: Dispatcher.ResponseData): string {
  const [type = ''] = String(headers['content-type'] ?? 'application/octet-stream').split(';')
  return type.trim().toLowerCase()
}

/** Ends a response whose body nobody wants, however long it is. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {})
  body.destroy()
}

function asFetchError(error: unknown): unknown {
  if (error instanceof ImageFetchError) return error
  if (error instanceof RefusedAddressError) return refused()
  const code = error instanceof Error && 'code' in error ? ` (${String(error.code)})` : ''
  return new ImageFetchError(
    'image_url_unreachable',
    `The image address cannot be reached${code}. Check that it opens from outside of your network.`,
    { retriable: true, cause: error },
  )
}

const invalid = (what: string) => new ImageFetchError('image_url_invalid', `The image address ${what}.`)

const refused = () =>
  new ImageFetchError(
    'image_url_private',
    'The image address leads into a private network. Use a public address, or send the image itself.',
  )

const tooManyRedirects = (max: number) =>
  new ImageFetchError(
    'image_url_redirects',
    `The image address redirects more than ${max} times. Use the address that it ends at.`,
  )

const badStatus = (status: number) =>
  new ImageFetchError(
    'image_url_status',
    `The image address answered with status ${status}. Check that it is right and public.`,
    { retriable: status >= 500 || status === 429 || status === 408 },
  )

const badType = (type: string) =>
  new ImageFetchError(
    'image_url_content_type',
    `The image address answered with ${type.slice(0, 100) || 'an empty content type'}. Use an address that answers with image/*.`,
  )

const tooLarge = (maxBytes: number) =>
  new ImageFetchError(
    'image_url_too_large',
    `The image at the address has more than ${maxBytes} bytes. Use a smaller one.`,
  )

const timedOut = (timeoutMs: number) =>
  new ImageFetchError(
    'image_url_timeout',
    `The image address did not deliver within ${timeoutMs} ms. Use a faster one, or send the image itself.`,
    { retriable: true },
  )
