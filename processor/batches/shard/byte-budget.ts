/** Memory that was taken from a budget. */
export interface Reservation {
  /** Gives back what turned out not to be needed. */
  shrink(bytes: number): void
  /** Gives everything back; a second call does nothing. */
  release(): void
}

/**
 * Bounds the memory of work whose size is known only afterwards: reserve the most it can need, shrink to what it
 * needed, release. First come, first served.
 *
 * @example
 * const reservation = await budget.reserve(maxBytes)
 * try {
 *   const image = await fetch(url)
 *   reservation.shrink(image.length)
 *   await use(image)
 * } finally {
 *   reservation.release()
 * }
 */
export class ByteBudget {
  #free: number
  readonly #size: number
  readonly #waiting: { bytes: number; resolve(): void }[] = []

  /** @param size bytes */
  constructor(size: number) {
    this.#size = size
    this.#free = size
  }

  /** Bytes that are reserved. */
  get reserved(): number {
    return this.#size - this.#free
  }

  /** Resolves when there is room. What is larger than the whole budget gets all of it. */
  async reserve(bytes: number): Promise<Reservation> {
    let held = Math.min(bytes, this.#size)
    if (this.#waiting.length > 0 || held > this.#free) {
      const { promise, resolve } = Promise.withResolvers<void>()
      this.#waiting.push({ bytes: held, resolve })
      await promise
    } else this.#free -= held
    const shrink = (to: number) => {
      const left = Math.min(to, held)
      this.#free += held - left
      held = left
      this.#serve()
    }
    return { shrink, release: () => shrink(0) }
  }

  #serve(): void {
    for (let next = this.#waiting[0]; next && next.bytes <= this.#free; next = this.#waiting[0]) {
      this.#free -= next.bytes
      this.#waiting.shift()
      next.resolve()
    }
  }
}
