import { type PausableLimit, pausableLimit } from '../timing.ts'
import { imageFaults } from './faults.ts'
import type { HostPaces, Visit } from './host-paces.ts'
import { defaultTimeoutMs, type ImageReader, type WebAnswer } from './image-reader.ts'
import { looksPublic } from './public-address.ts'
import { withoutDot } from './web-address.ts'

export interface WebRules {
  /** Time for everything, redirects included, ms; default 10,000. */
  timeoutMs?: number
  /** Default 10. */
  maxRedirects?: number
  /** Allows private addresses and http; default false. */
  allowPrivate?: boolean
  /** Allows http at public addresses; default false. */
  allowHttp?: boolean
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
  /**
   * Waits for memory for an image of so many bytes, before it is read; of several calls the last one counts. The time is not
   * the host's.
   */
  room?(bytes: number): Promise<void>
  /** When whoever asks has waited for long enough, unix ms: it is not tried again after that. */
  until?: number
  /** Ends the wait for a host; default: `signal`. */
  leave?: AbortSignal
  signal: AbortSignal
}

/**
 * Creates a fetcher of images at web addresses. It refuses private literal addresses and names, those of redirects
 * too; what names resolve to is checked by the platform's `fetch`. What is an image is decided by the bytes.
 * @returns the bytes; throws ImageError, or the signal's reason when it aborts
 */
export function createWebFetcher(
  reader: Pick<ImageReader, 'web'>,
  options: WebRules = {},
): (url: string, ask: WebAsk) => Promise<Uint8Array> {
  const { timeoutMs = defaultTimeoutMs, maxRedirects = 10 } = options

  async function fetchWithin(address: string, ask: WebAsk, limit: PausableLimit): Promise<Uint8Array> {
    let url = parseAddress(address, options)
    for (let redirects = 0; ; redirects++) {
      const answer = await visit({ ...options, reader }, url, ask, limit)
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

/** How it is asked. */
type Asking = Pick<WebRules, 'hosts'> & { reader: Pick<ImageReader, 'web'> }

/** Fetches from one host when it may be asked; neither that wait nor the one for a place counts as the host's. */
async function visit(options: Asking, url: URL, ask: WebAsk, limit: PausableLimit): Promise<WebAnswer> {
  const { hosts } = options
  const fetchHop = () => hopInPlace(options, url, ask, limit)
  return hosts ? hosts.visit({ ...visitOf(ask, url.host), outside: limit.outside }, fetchHop) : fetchHop()
}

async function hopInPlace(
  { reader }: Asking,
  url: URL,
  ask: WebAsk,
  limit: PausableLimit,
): Promise<WebAnswer> {
  const place = ask.place && (await limit.outside(ask.place()))
  let answer: WebAnswer | undefined
  try {
    answer = await hop(reader, url, ask, limit)
    return answer
  } finally {
    if (!answer || 'location' in answer) place?.release()
  }
}

function hop(
  reader: Pick<ImageReader, 'web'>,
  url: URL,
  ask: WebAsk,
  limit: PausableLimit,
): Promise<WebAnswer> {
  const room = ask.room && ((bytes: number) => limit.outside(ask.room!(bytes)))
  return reader.web(url, { room, signal: AbortSignal.any([limit.signal, ask.signal]) })
}

/** Parses an address from a caller, or from a redirect of `base`. @throws ImageError */
function parseAddress(
  address: string,
  { allowPrivate = false, allowHttp = false }: WebRules,
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
