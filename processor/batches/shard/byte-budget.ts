/** Reserved memory. */
export interface Reservation {
  /** Returns memory beyond `bytes`. */
  shrink(bytes: number): void
  /** Returns all; idempotent. */
  release(): void
}

/**
 * Bounds the memory of work whose size is known only afterwards: reserve the maximum, shrink to the actual size,
 * release. First come, first served.
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

  get reserved(): number {
    return this.#size - this.#free
  }

  /** Resolves when there is room. Requests above the whole budget get all of it. */
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
