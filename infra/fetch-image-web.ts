import ipaddr from 'ipaddr.js'
import type { FetchedImage, ImageFetcher } from './fetch-image.ts'
import {
  contentTypeOf,
  faultOf,
  type ImageResponseHead,
  imageRequestHeaders,
  parseImageAddress,
  readLimited,
  redirectOf,
} from './image-address.ts'
import { ImageFetchError, imageFetchFaults } from './image-fetch-error.ts'
import { isPublicAddress } from './public-address.ts'

export interface WebImageFetcherOptions {
  /** Bytes of an image at most. */
  maxBytes: number
  /** Time for everything, redirects included, ms; default 10,000. */
  timeoutMs?: number
  /** Default 3. */
  maxRedirects?: number
  /** Allows private addresses and http; default false. */
  allowPrivate?: boolean
  /** Default: the platform's. */
  fetch?: typeof globalThis.fetch
}

/**
 * Fetches images with nothing but `fetch`, where a platform has no sockets that could be checked, as on Workers. It
 * refuses literal addresses and names that are private on their face, those of redirects too; that a public name
 * does not resolve to a private address is the platform's part, and Cloudflare's network has no way to one.
 *
 * @example
 * const images = createWebImageFetcher({ maxBytes: 20 * 1024 * 1024 })
 * const { bytes } = await images.fetch('https://example.com/photo.jpg')
 */
export function createWebImageFetcher(options: WebImageFetcherOptions): Pick<ImageFetcher, 'fetch'> {
  const { maxBytes, timeoutMs = 10_000, maxRedirects = 3, allowPrivate = false } = options
  const fetch: typeof globalThis.fetch = options.fetch ?? ((...request) => globalThis.fetch(...request))
  const schemes = allowPrivate ? ['https', 'http'] : ['https']

  const addressOf = (address: string, base?: URL): URL => {
    const url = parseImageAddress(address, schemes, base)
    if (!allowPrivate && !looksPublic(url.hostname)) throw imageFetchFaults.refused()
    return url
  }

  async function fetchWithin(signal: AbortSignal, address: string): Promise<FetchedImage> {
    let url = addressOf(address)
    for (let redirects = 0; ; redirects++) {
      const response = await fetch(url, { redirect: 'manual', signal, headers: imageRequestHeaders })
      const location = redirectOf(headOf(response))
      if (location === undefined) return readImage(response, maxBytes)
      await discard(response)
      if (redirects === maxRedirects) throw imageFetchFaults.tooManyRedirects(maxRedirects)
      url = addressOf(location, url)
    }
  }

  return {
    async fetch(address, { signal } = {}) {
      const deadline = AbortSignal.timeout(timeoutMs)
      try {
        return await fetchWithin(signal ? AbortSignal.any([deadline, signal]) : deadline, address)
      } catch (error) {
        signal?.throwIfAborted()
        if (deadline.aborted) throw imageFetchFaults.timedOut(timeoutMs)
        throw error instanceof ImageFetchError ? error : imageFetchFaults.unreachable(error)
      }
    },
  }
}

/** Names that never lead into the internet (RFC 6761, RFC 6762, RFC 8375, ICANN's `internal`). */
const privateNames = /(^|\.)(localhost|local|internal|home\.arpa)$/

/** Whether a URL's host is a public address, or a name that could have one. */
export function looksPublic(hostname: string): boolean {
  const host = hostname.replace(/^\[(.*)\]$/, '$1').replace(/\.$/, '')
  if (ipaddr.isValid(host)) return isPublicAddress(host)
  return host.includes('.') && !privateNames.test(host)
}

const headOf = ({ status, headers }: Response): ImageResponseHead => ({
  status,
  header: (name) => headers.get(name),
})

async function readImage(response: Response, maxBytes: number): Promise<FetchedImage> {
  const head = headOf(response)
  const fault = faultOf(head, maxBytes)
  if (fault) {
    await discard(response)
    throw fault
  }
  const bytes = response.body ? await readLimited(response.body, maxBytes) : new Uint8Array(0)
  return { bytes, contentType: contentTypeOf(head) }
}

/** Ends a response whose body nobody wants, however long it is. */
async function discard({ body }: Response): Promise<void> {
  await body?.cancel()
}
