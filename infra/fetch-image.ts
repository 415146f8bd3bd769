import { Agent, type Dispatcher, request } from 'undici'
import {
  type AddressPolicy,
  guardedConnector,
  type Lookup,
  RefusedAddressError,
} from './guarded-connector.ts'
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
import { anyAddress, isPublicAddress } from './public-address.ts'

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
    let url = parseImageAddress(address, schemes)
    for (let redirects = 0; ; redirects++) {
      const response = await request(url, { dispatcher: agent, signal, headers: imageRequestHeaders })
      const location = redirectOf(headOf(response))
      if (location === undefined) return readImage(response, maxBytes)
      discard(response)
      if (redirects === maxRedirects) throw imageFetchFaults.tooManyRedirects(maxRedirects)
      url = parseImageAddress(location, schemes, url)
    }
  }

  return {
    async fetch(address, { signal } = {}) {
      const deadline = AbortSignal.timeout(timeoutMs)
      try {
        return await fetchWithin(signal ? AbortSignal.any([deadline, signal]) : deadline, address)
      } catch (error) {
        signal?.throwIfAborted()
        throw deadline.aborted ? imageFetchFaults.timedOut(timeoutMs) : asFetchError(error)
      }
    },
    close: () => agent.destroy(),
  }
}

const headOf = ({ statusCode, headers }: Dispatcher.ResponseData): ImageResponseHead => ({
  status: statusCode,
  header: (name) => headers[name]?.toString(),
})

async function readImage(response: Dispatcher.ResponseData, maxBytes: number): Promise<FetchedImage> {
  const head = headOf(response)
  const fault = faultOf(head, maxBytes)
  if (fault) {
    discard(response)
    throw fault
  }
  return { bytes: await readLimited(response.body, maxBytes), contentType: contentTypeOf(head) }
}

/** Ends a response whose body nobody wants, however long it is. */
function discard({ body }: Dispatcher.ResponseData): void {
  body.on('error', () => {})
  body.destroy()
}

function asFetchError(error: unknown): ImageFetchError {
  if (error instanceof ImageFetchError) return error
  return error instanceof RefusedAddressError
    ? imageFetchFaults.refused()
    : imageFetchFaults.unreachable(error)
}
