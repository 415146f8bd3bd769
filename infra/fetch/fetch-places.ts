import { FairBudget, type ReserveOptions } from '../fair-budget.ts'
import { timeLimit } from '../timing.ts'
import { imageFaults } from './faults.ts'
import { type ImageSource, kindOf } from './image-source.ts'

/** A place for one image. */
export interface FetchPlace {
  /** Idempotent. */
  release(): void
}

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
 * the others; and of the web places that one has, a single host gets half at most.
 *
 * @example
 * const place = await places.take({ owner: 'acme', address: 'https://example.com/a.jpg', signal })
 */
export class FetchPlaces {
  readonly #hosts: FairBudget
  readonly #kinds: Record<ReturnType<typeof kindOf>, FairBudget>

  /** @param perHost web fetches of one owner at one host, and objects of S3 of one owner */
  constructor(perHost: number) {
    const shared = (perOwner: number) => new FairBudget({ size: fullOwners * perOwner, perOwner })
    this.#hosts = new FairBudget({ size: Number.MAX_SAFE_INTEGER, perOwner: perHost })
    this.#kinds = { web: shared(2 * perHost), s3: shared(perHost), data: shared(perHost) }
  }

  /** Places taken. */
  get taken(): number {
    return Object.values(this.#kinds).reduce((sum, { reserved }) => sum + reserved, 0)
  }

  /** Waits for a place. @throws the signal's reason */
  async take({ owner, address, ...options }: PlaceAsk): Promise<FetchPlace> {
    const kind = kindOf(address)
    if (kind !== 'web') return this.#kinds[kind].reserve(owner, 1, options)
    // First the host's: who waits for a host holds nothing that another host could use.
    const host = await this.#hosts.reserve(`${owner} ${URL.parse(address)?.host ?? ''}`, 1, options)
    try {
      const place = await this.#kinds.web.reserve(owner, 1, options)
      return {
        release() {
          place.release()
          host.release()
        },
      }
    } catch (error) {
      host.release()
      throw error
    }
  }
}

export interface InPlacesOptions {
  places: FetchPlaces
  /** Time that a fetch may wait for its place, ms. */
  waitMs: number
}

/**
 * An image source whose fetches are bounded for each owner, and in all.
 * @returns it throws TurbineError `too_many_fetches` too
 */
export function inPlaces(imageAt: ImageSource, { places, waitMs }: InPlacesOptions): ImageSource {
  return async (address, ask) => {
    if (kindOf(address) === 'data') return imageAt(address, ask)
    const { owner = '', signal } = ask
    const limit = timeLimit(waitMs, imageFaults.noPlace)
    let place: FetchPlace | undefined
    try {
      place = await places.take({ owner, address, signal: AbortSignal.any([signal, limit.signal]) })
      limit.clear()
      return await imageAt(address, ask)
    } finally {
      limit.clear()
      place?.release()
    }
  }
}
