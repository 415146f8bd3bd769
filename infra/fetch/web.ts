import { ImageError } from '../errors.ts'
import { imageFaults } from './faults.ts'
import { looksPublic } from './public-address.ts'

export interface WebOptions {
  /**
   * The platform's. It follows no redirect by itself, and must not connect to a private address that a public name
   * resolves to: Cloudflare's network has no way to one, and `openImageSource` checks each connection on Node.
   */
  fetch: (url: URL, init: RequestInit) => Promise<Response>
  /** Bytes of an image at most. */
  maxBytes: number
  /** Time for everything, redirects included, ms; default 10,000. */
  timeoutMs?: number
  /** Default 3. */
  maxRedirects?: number
  /** Allows private addresses and http; default false. */
  allowPrivate?: boolean
}

const headers = { 'user-agent': 'turbine', accept: 'image/*', 'accept-encoding': 'identity' }
const redirectStatuses = new Set([301, 302, 303, 307, 308])
const acceptedTypes = /^(image\/[\w.+-]+|(application|binary)\/octet-stream)$/

/**
 * Creates a fetcher of images at https addresses. It refuses private literal addresses and names, those of redirects
 * too; what names resolve to is checked by the platform's `fetch`.
 * @returns the bytes; throws ImageError, or the signal's reason when it aborts
 */
export function createWebFetcher(
  options: WebOptions,
): (url: string, signal: AbortSignal) => Promise<Uint8Array> {
  const { fetch, maxBytes, timeoutMs = 10_000, maxRedirects = 3, allowPrivate = false } = options

  async function fetchWithin(signal: AbortSignal, address: string): Promise<Uint8Array> {
    let url = parseAddress(address, allowPrivate)
    for (let redirects = 0; ; redirects++) {
      const response = await fetch(url, { redirect: 'manual', signal, headers })
      const location = redirectStatuses.has(response.status) && response.headers.get('location')
      if (!location) return readImage(response, maxBytes, signal)
      await discard(response)
      if (redirects === maxRedirects) throw imageFaults.tooManyRedirects(maxRedirects)
      url = parseAddress(location, allowPrivate, url)
    }
  }

  return async (address, signal) => {
    const deadline = AbortSignal.timeout(timeoutMs)
    try {
      return await fetchWithin(AbortSignal.any([deadline, signal]), address)
    } catch (error) {
      signal.throwIfAborted()
      if (deadline.aborted) throw imageFaults.timedOut(timeoutMs)
      // `fetch` wraps what the connection says into a TypeError.
      const reason = error instanceof TypeError ? (error.cause ?? error) : error
      throw reason instanceof ImageError ? reason : imageFaults.unreachable(reason)
    }
  }
}

/** Parses an address from a caller, or from a redirect of `base`. @throws ImageError */
function parseAddress(address: string, allowPrivate: boolean, base?: URL): URL {
  const { invalid } = imageFaults
  const url = URL.parse(address, base?.href)
  if (!url) throw invalid('The image address is not an address. It must start with https://, data: or s3://.')
  const scheme = url.protocol.slice(0, -1)
  if (scheme !== 'https' && !(allowPrivate && scheme === 'http'))
    throw invalid(
      `The image address leads to ${scheme}; only https${allowPrivate ? ' and http' : ''} can be fetched.`,
    )
  if (url.username || url.password)
    throw invalid('The image address has a user name or password. Leave them out.')
  if (!allowPrivate && !looksPublic(url.hostname)) throw imageFaults.refused()
  return url
}

async function readImage(response: Response, maxBytes: number, signal: AbortSignal): Promise<Uint8Array> {
  const fault = faultOf(response, maxBytes)
  if (fault) {
    await discard(response)
    throw fault
  }
  return response.body ? readLimited(response.body, maxBytes, signal) : new Uint8Array(0)
}

/** Checks the head of a response. One without a content type counts as bytes. */
function faultOf({ status, headers }: Response, maxBytes: number): ImageError | undefined {
  if (status !== 200) return imageFaults.badStatus(status)
  const [type = ''] = (headers.get('content-type') ?? 'application/octet-stream').split(';')
  const name = type.trim().toLowerCase()
  if (!acceptedTypes.test(name)) return imageFaults.badType(name)
  return Number(headers.get('content-length') ?? 0) > maxBytes ? imageFaults.tooLarge(maxBytes) : undefined
}

/** Cancels a body that is not read. */
const discard = async ({ body }: Response) => body?.cancel().catch(() => {})

/**
 * The whole body.
 * @throws ImageError `image_url_too_large` as soon as more than `maxBytes` were read; the signal's reason
 */
export async function readLimited(
  body: ReadableStream<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    signal.throwIfAborted()
    size += chunk.byteLength
    if (size > maxBytes) throw imageFaults.tooLarge(maxBytes)
    chunks.push(chunk)
  }
  const bytes = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.byteLength
  }
  return bytes
}
