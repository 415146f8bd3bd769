import { isDecodingError } from '../compression/content-encoding.ts'
import { ImageError } from '../errors.ts'
import { parseRetryAfter } from '../retry.ts'
import { type PausableLimit, pausableLimit } from '../timing.ts'
import { imageFaults } from './faults.ts'
import type { HostPaces, Visit } from './host-paces.ts'
import { looksPublic } from './public-address.ts'
import { type ReadBodyOptions, readBody } from './read-body.ts'
import { isText, isWebPage } from './text-bytes.ts'
import { locationOf, withoutDot } from './web-address.ts'

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
  /** Default 10. */
  maxRedirects?: number
  /** Allows private addresses and http; default false. */
  allowPrivate?: boolean
  /** Allows http at public addresses; default false. */
  allowHttp?: boolean
  /** Names the service to hosts; default `Turbine`. */
  userAgent?: string
  /** Asks each host as fast as it gives; default: at once. */
  hosts?: HostPaces
}

/** A place for one image. */
export interface FetchPlace {
  /** Idempotent. */
  release(): void
}

export interface WebAsk extends Pick<Visit, 'priority' | 'waitMs' | 'failedSince' | 'onWait'> {
  /** On whose behalf, e.g. a tenant; default: nobody's. */
  owner?: string
  /**
   * Takes a place, once the host of the address may be asked. It is released when the host has failed or redirects;
   * that of the image is left to whoever asks.
   */
  place?(): Promise<FetchPlace>
  /** Waits for memory for an image of so many bytes, before it is read; the time does not count as the host's. */
  room?(bytes: number): Promise<void>
  /** When whoever asks has waited for long enough, unix ms: it is not tried again after that. */
  until?: number
  /** Ends the wait for a host; default: `signal`. */
  leave?: AbortSignal
  signal: AbortSignal
}

export const defaultTimeoutMs = 10_000

/** What bytes of a text are called rightly. */
const textTypes = /^(text\/|application\/(?!octet-stream))/
const redirectStatuses = new Set([301, 302, 303, 307, 308])
/** 203: a proxy has changed the answer. */
const imageStatuses = new Set([200, 203])

/**
 * Creates a fetcher of images at web addresses. It refuses private literal addresses and names, those of redirects
 * too; what names resolve to is checked by the platform's `fetch`. What is an image is decided by the bytes.
 * @returns the bytes; throws ImageError, or the signal's reason when it aborts
 */
export function createWebFetcher(options: WebOptions): (url: string, ask: WebAsk) => Promise<Uint8Array> {
  const { timeoutMs = defaultTimeoutMs, maxRedirects = 10 } = options

  async function fetchWithin(address: string, ask: WebAsk, limit: PausableLimit): Promise<Uint8Array> {
    let url = parseAddress(address, options)
    for (let redirects = 0; ; redirects++) {
      const answer = await visit(options, url, ask, limit)
      if ('image' in answer) return answer.image
      if (redirects === maxRedirects) throw imageFaults.tooManyRedirects(maxRedirects)
      url = parseAddress(answer.location, options, url)
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

/** A visit to a host on behalf of an ask. */
export const visitOf = ({ owner = '', leave, ...ask }: WebAsk, host: string): Visit => ({
  ...ask,
  signal: leave ?? ask.signal,
  owner,
  host,
})

type Answer = { image: Uint8Array } | { location: string }

/** Fetches from one host when it may be asked; neither that wait nor the one for a place counts as the host's. */
async function visit(options: WebOptions, url: URL, ask: WebAsk, limit: PausableLimit): Promise<Answer> {
  const { hosts } = options
  const fetchHop = () => hopInPlace(options, url, ask, limit)
  return hosts ? hosts.visit({ ...visitOf(ask, url.host), outside: limit.outside }, fetchHop) : fetchHop()
}

async function hopInPlace(options: WebOptions, url: URL, ask: WebAsk, limit: PausableLimit): Promise<Answer> {
  const place = ask.place && (await limit.outside(ask.place()))
  let answer: Answer | undefined
  try {
    answer = await hop(options, url, ask, limit)
    return answer
  } finally {
    if (!answer || 'location' in answer) place?.release()
  }
}

/** Fetches from one host: the image, or where it redirects to. @throws ImageError; the reason of the ask's signal */
async function hop(
  { fetch, maxBytes, userAgent = 'Turbine' }: WebOptions,
  url: URL,
  ask: WebAsk,
  limit: PausableLimit,
): Promise<Answer> {
  const signal = AbortSignal.any([limit.signal, ask.signal])
  const headers = { 'user-agent': userAgent, accept: 'image/*,*/*;q=0.5', 'accept-encoding': 'identity' }
  try {
    const response = await fetch(url, { redirect: 'manual', signal, headers })
    const location = redirectStatuses.has(response.status) && locationOf(response.headers)
    if (location) {
      await discard(response)
      return { location }
    }
    const room = ask.room && ((bytes: number) => limit.outside(ask.room!(bytes)))
    return { image: await readImage(response, url, { maxBytes, room, signal }) }
  } catch (error) {
    ask.signal.throwIfAborted()
    limit.signal.throwIfAborted()
    // `fetch` wraps what the connection says into a TypeError.
    const reason = error instanceof TypeError ? (error.cause ?? error) : error
    if (isDecodingError(reason)) throw imageFaults.damaged(reason)
    throw reason instanceof ImageError ? reason : imageFaults.unreachable(reason)
  }
}

/** Parses an address from a caller, or from a redirect of `base`. @throws ImageError */
function parseAddress(
  address: string,
  { allowPrivate = false, allowHttp = false }: WebOptions,
  base?: URL,
): URL {
  const { invalid } = imageFaults
  const url = URL.parse(address, base?.href)
  if (!url)
    throw invalid(
      'The image address is not an address. It must start with https://, http://, data: or s3://.',
    )
  const scheme = url.protocol.slice(0, -1)
  const http = allowHttp || allowPrivate
  if (scheme !== 'https' && !(http && scheme === 'http'))
    throw invalid(
      `The image address leads to ${scheme}; only https${http ? ' and http' : ''} can be fetched.`,
    )
  if (url.username || url.password)
    throw invalid('The image address has a user name or password. Leave them out.')
  if (!allowPrivate && !looksPublic(url.hostname)) throw imageFaults.refused()
  return withoutDot(url)
}

async function readImage(
  response: Response,
  url: URL,
  options: Omit<ReadBodyOptions, 'size'>,
): Promise<Uint8Array> {
  const { status, headers, body } = response
  if (!imageStatuses.has(status)) {
    await discard(response)
    throw imageFaults.badStatus({ status, host: url.host, afterMs: retryAfterOf(headers) })
  }
  if (!body) return new Uint8Array(0)
  const bytes = await readBody(body, { ...options, size: announcedSize(response) })
  if (isWebPage(bytes)) throw imageFaults.webPage()
  const [type = ''] = (headers.get('content-type') ?? '').toLowerCase().split(';')
  if (textTypes.test(type.trim()) && isText(bytes)) throw imageFaults.badType(type.trim())
  return bytes
}

/** Longest pause that a host can ask for, ms. */
const longestRetryAfterMs = 3_600_000

/** A date is compared with the host's own clock. */
function retryAfterOf(headers: Headers): number | undefined {
  const now = Date.parse(headers.get('date') ?? '') || undefined
  return parseRetryAfter(headers.get('retry-after'), { now, longestMs: longestRetryAfterMs })
}

/** Undefined without a length, and for what is decompressed on the way, whose length says nothing. */
function announcedSize({ headers }: Response): number | undefined {
  const length = headers.get('content-length')
  return length === null || headers.has('content-encoding') ? undefined : Number(length) || 0
}

/** Cancels a body that is not read. */
const discard = async ({ body }: Response) => body?.cancel().catch(() => {})
