import { FairBudget, type ReserveOptions } from '../fair-budget.ts'
import { timeLimit } from '../timing.ts'
import { imageFaults } from './faults.ts'
import { type ImageAsk, type ImageSource, kindOf } from './image-source.ts'
import { fetchPatiently } from './patient.ts'
import type { FetchPlace } from './web.ts'

export interface PlaceAsk extends ReserveOptions {
  /** On whose behalf, e.g. a tenant. */
  owner: string
  /** Of the image. */
  address: string
}

/** Owners that can have all of their places at a time. */
const fullOwners = 2

/**
 * Places of images being fetched, by the kind of their address: an object of S3 never waits for a web server, nor the
 * image in a `data:` address for either. Of each kind an owner has a share, so that fetches that hang take no place of
 * the others. Of the web places that one has, a single host gets half at most: `HostPaces` bounds what it is asked for.
 *
 * @example
 * const place = await places.take({ owner: 'acme', address: 'https://example.com/a.jpg', signal })
 */
export class FetchPlaces {
  readonly #kinds: Record<ReturnType<typeof kindOf>, FairBudget>

  /** @param perHost web fetches of one owner at one host, and objects of S3 of one owner */
  constructor(perHost: number) {
    const shared = (perOwner: number) => new FairBudget({ size: fullOwners * perOwner, perOwner })
    this.#kinds = { web: shared(2 * perHost), s3: shared(perHost), data: shared(perHost) }
  }

  /** Places taken. */
  get taken(): number {
    return Object.values(this.#kinds).reduce((sum, { reserved }) => sum + reserved, 0)
  }

  /** Waits for a place. @throws the signal's reason */
  take({ owner, address, ...options }: PlaceAsk): Promise<FetchPlace> {
    return this.#kinds[kindOf(address)].reserve(owner, 1, options)
  }
}

export interface InPlacesOptions {
  places: FetchPlaces
  /** Time that a fetch may wait for its host and its place, and in which it is tried again, ms. */
  waitMs: number
  /** Unix ms. */
  now?(): number
}

/**
 * An image source for callers who wait: fetches are bounded for each owner, and in all, and those that fail in passing are
 * tried again while there is time.
 * @returns it throws TurbineError `too_many_fetches` too
 */
export function inPlaces(
  imageAt: ImageSource,
  { places, waitMs, now = Date.now }: InPlacesOptions,
): ImageSource {
  async function fetch(address: string, ask: ImageAsk, until: number): Promise<Uint8Array> {
    const { owner = '', signal } = ask
    let taken: FetchPlace | undefined
    const place = async () => {
      const limit = timeLimit(until - now(), imageFaults.noPlace)
      try {
        taken = await places.take({ owner, address, signal: AbortSignal.any([signal, limit.signal]) })
        return taken
      } finally {
        limit.clear()
      }
    }
    try {
      return await imageAt(address, { ...ask, place, waitMs: Math.max(0, until - now()) })
    } finally {
      taken?.release()
    }
  }

  return (address, ask) => {
    if (kindOf(address) === 'data') return imageAt(address, ask)
    const until = Math.min(now() + waitMs, ask.until ?? Number.POSITIVE_INFINITY)
    const { signal } = ask
    return fetchPatiently((failedSince) => fetch(address, { ...ask, failedSince }, until), {
      signal,
      until,
      now,
    })
  }
}
