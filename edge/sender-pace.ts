import { BoundedMap } from '../infra/bounded-map.ts'

export interface SenderPaceOptions {
  /** Of one sender. */
  bytesPerSecond: number
  /** Bytes that would have to wait longer are refused, ms. Default: none are. */
  longestMs?: number
  /** Time that a sender may be ahead of its pace, ms. Default 0. */
  aheadMs?: number
  /** Monotonic, ms. */
  now?(): number
}

/** Senders that are remembered; one that is forgotten starts anew. */
const maxSenders = 10_000

/**
 * Paces the bytes of each sender, so that what one sends as fast as it can, in however many bodies, does not keep the event loop,
 * the network and the garbage collector from the requests of others.
 *
 * @example
 * const pace = new SenderPace({ bytesPerSecond: 100_000_000 })
 * const delayMs = pace.delay(apiKey, 20_000_000) // 0 for the first
 */
export class SenderPace {
  readonly #options: Required<SenderPaceOptions>
  /** When all earlier bytes of a sender are through. */
  readonly #freeAt = new BoundedMap<string, number>(maxSenders)

  constructor(options: SenderPaceOptions) {
    this.#options = {
      longestMs: Number.POSITIVE_INFINITY,
      aheadMs: 0,
      now: () => performance.now(),
      ...options,
    }
  }

  /** Time until the turn of these bytes, ms; undefined if that is too long. */
  delay(sender: string, bytes: number): number | undefined {
    const { bytesPerSecond, longestMs, aheadMs, now } = this.#options
    const at = now()
    const turn = Math.max(at - aheadMs, this.#freeAt.get(sender) ?? 0)
    if (turn - at > longestMs) return undefined
    this.#freeAt.set(sender, turn + (1000 * bytes) / bytesPerSecond)
    return Math.max(0, turn - at)
  }
}
