import { BoundedMap } from '../infra/bounded-map.ts'

export interface UnreadBodiesOptions {
  /** Of one sender. Default 200 million. */
  bytesPerSecond?: number
  /** Bodies that would have to wait longer are cut off, ms. Default 5,000. */
  longestMs?: number
  /** Monotonic, ms. */
  now?(): number
}

/** Senders that are remembered; one that is forgotten starts anew. */
const maxSenders = 10_000

/**
 * Paces answers to requests whose bodies are not read. A client that is still sending when it has its answer is let finish,
 * since few look for an answer before; what it sends is thrown away, which keeps the event loop and the garbage collector
 * busy all the same. So a sender with hundreds of large bodies that are refused gets its answers one after the other, as
 * if they were read, and others' requests do not wait for them.
 *
 * @example
 * const unread = new UnreadBodies()
 * const delay = unread.delay(apiKey, 20_000_000) // 0 for the first
 */
export class UnreadBodies {
  readonly #options: Required<UnreadBodiesOptions>
  /** When all earlier bodies of a sender are through. */
  readonly #freeAt = new BoundedMap<string, number>(maxSenders)

  constructor({
    bytesPerSecond = 200_000_000,
    longestMs = 5_000,
    now = () => performance.now(),
  }: UnreadBodiesOptions = {}) {
    this.#options = { bytesPerSecond, longestMs, now }
  }

  /** Time until a body's turn, ms; undefined if that is too long. */
  delay(sender: string, bytes: number): number | undefined {
    const { bytesPerSecond, longestMs, now } = this.#options
    const at = now()
    const turn = Math.max(at, this.#freeAt.get(sender) ?? at)
    if (turn - at > longestMs) return undefined
    this.#freeAt.set(sender, turn + (1000 * bytes) / bytesPerSecond)
    return turn - at
  }
}
