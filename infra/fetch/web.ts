import { ImageError } from '../errors.ts'
import { type PausableLimit, pausableLimit } from '../timing.ts'
import { imageFaults } from './faults.ts'
import type { HostBreaker } from './host-breaker.ts'
import { looksPublic } from './public-address.ts'
import { type ReadBodyOptions, readBody } from './read-body.ts'

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
  /** Leaves hosts alone that do not answer; default: every host is asked. */
  hosts?: HostBreaker
}

export interface WebAsk {
  /** On whose behalf, e.g. a tenant; default: nobody's. */
  owner?: string
  /** Waits for memory for an image of so many bytes, before it is read; the time does not count as the host's. */
  room?(bytes: number): Promise<void>
  signal: AbortSignal
}

export const defaultTimeoutMs = 10_000

const headers = { 'user-agent': 'turbine', accept: 'image/*', 'accept-encoding': 'identity' }
const redirectStatuses = new Set([301, 302, 303, 307, 308])
const acceptedTypes = /^(image\/[\w.+-]+|(application|binary)\/octet-stream)$/

/**
 * Creates a fetcher of images at https addresses. It refuses private literal addresses and names, those of redirects
 * too; what names resolve to is checked by the platform's `fetch`.
 * @returns the bytes; throws ImageError, or the signal's reason when it aborts
 */
export function createWebFetcher(options: WebOptions): (url: string, ask: WebAsk) => Promise<Uint8Array> {
  const { timeoutMs = defaultTimeoutMs, maxRedirects = 3, allowPrivate = false, hosts } = options

  async function fetchWithin(address: string, ask: WebAsk, limit: PausableLimit): Promise<Uint8Array> {
    let url = parseAddress(address, allowPrivate)
    for (let redirects = 0; ; redirects++) {
      const { origin } = url
      const from = url
      const visit = { owner: ask.owner ?? '', origin, outside: limit.outside }
      const fetchHop = () => hop(options, from, ask, limit)
      const answer = await (hosts ? hosts.visit(visit, fetchHop) : fetchHop())
      if ('image' in answer) return answer.image
      if (redirects === maxRedirects) throw imageFaults.tooManyRedirects(maxRedirects)
      url = parseAddress(answer.location, allowPrivate, url)
    }
  }

  return async (address, ask) => {
    const limit = pausableLimit(timeoutMs, () => imageFaults.timedOut(timeoutMs))
    try {
      return await fetchWithin(address, ask, limit)
    } finally {
      limit.clear()
    }
  }
}

/** Fetches from one host: the image, or where it redirects to. @throws ImageError; the reason of the ask's signal */
async function hop(
  { fetch, maxBytes }: WebOptions,
  url: URL,
  ask: WebAsk,
  limit: PausableLimit,
): Promise<{ image: Uint8Array } | { location: string }> {
  const signal = AbortSignal.any([limit.signal, ask.signal])
  try {
    const response = await fetch(url, { redirect: 'manual', signal, headers })
    const location = redirectStatuses.has(response.status) && response.headers.get('location')
    if (location) {
      await discard(response)
      return { location }
    }
    const room = ask.room && ((bytes: number) => limit.outside(ask.room!(bytes)))
    return { image: await readImage(response, { maxBytes, room, signal }) }
  } catch (error) {
    ask.signal.throwIfAborted()
    limit.signal.throwIfAborted()
    // `fetch` wraps what the connection says into a TypeError.
    const reason = error instanceof TypeError ? (error.cause ?? error) : error
    throw reason instanceof ImageError ? reason : imageFaults.unreachable(reason)
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

async function readImage(response: Response, options: Omit<ReadBodyOptions, 'size'>): Promise<Uint8Array> {
  const fault = faultOf(response)
  if (fault) {
    await discard(response)
    throw fault
  }
  return response.body
    ? readBody(response.body, { ...options, size: announcedSize(response) })
    : new Uint8Array(0)
}

/** Checks the head of a response. One without a content type counts as bytes. */
function faultOf({ status, headers }: Response): ImageError | undefined {
  if (status !== 200) return imageFaults.badStatus(status)
  const [type = ''] = (headers.get('content-type') ?? 'application/octet-stream').split(';')
  const name = type.trim().toLowerCase()
  return acceptedTypes.test(name) ? undefined : imageFaults.badType(name)
}

/** Undefined without a length, and for what is decompressed on the way, whose length says nothing. */
function announcedSize({ headers }: Response): number | undefined {
  const length = headers.get('content-length')
  return length === null || headers.has('content-encoding') ? undefined : Number(length) || 0
}

/** Cancels a body that is not read. */
const discard = async ({ body }: Response) => body?.cancel().catch(() => {})
