/** Units that an owner holds. */
export interface Reservation {
  /** Takes more, if there is room now. @returns whether there was */
  tryGrow(units: number): boolean
  /** Returns what is beyond `units`. */
  shrink(units: number): void
  /** Returns all; idempotent. */
  release(): void
}

export interface FairBudgetOptions {
  /** Units in all: bytes, or places. */
  size: number
  /** Maximum units of one owner; default: all of them, or half with `leavesRoom`. */
  perOwner?: number
  /** An owner may not take more than is left then, so that there is always room for another one. Default: false. */
  leavesRoom?: boolean
}

export interface ReserveOptions {
  /** The lowest of an owner is served first, then the one that came first; default 0. */
  priority?: number
  /** Ends the wait. */
  signal?: AbortSignal
}

interface Waiting {
  units: number
  priority: number
  grant(): void
}

/**
 * Shares units of something scarce (bytes of memory, places) between owners, e.g. tenants or hosts. The next unit goes
 * to the waiting owner that holds the least, so that one that asks for everything leaves room for the others; a
 * request that does not fit yet is not overtaken by smaller ones of owners that hold more.
 *
 * @example
 * const places = new FairBudget({ size: 64, perOwner: 48 })
 * await places.run('acme', () => fetch(url), { signal })
 */
export class FairBudget {
  readonly #size: number
  readonly #perOwner: number
  readonly #leavesRoom: boolean
  #free: number
  readonly #held = new Map<string, number>()
  /** By owner; the owner served longest ago is first. */
  readonly #waiting = new Map<string, Waiting[]>()

  constructor({ size, leavesRoom = false, perOwner = size }: FairBudgetOptions) {
    this.#size = size
    this.#perOwner = Math.min(leavesRoom ? Math.floor(size / 2) : size, perOwner)
    this.#leavesRoom = leavesRoom
    this.#free = size
  }

  /** Units that are reserved. */
  get reserved(): number {
    return this.#size - this.#free
  }

  /** Units that an owner holds. */
  heldBy(owner: string): number {
    return this.#held.get(owner) ?? 0
  }

  /** Why a reservation is not possible now: the owner's share, or the whole, is used up. Undefined if it is possible. */
  refusal(owner: string, units: number): 'owner' | 'full' | undefined {
    const held = this.heldBy(owner)
    if (held + units > this.#perOwner) return 'owner'
    if (!this.#isFair(held, units)) return held > 0 ? 'owner' : 'full'
    // Those who wait for room, and not for a share of their own, come first.
    return units > this.#free || this.#next() !== undefined ? 'full' : undefined
  }

  /** Undefined if there is no room now. */
  tryReserve(owner: string, units: number): Reservation | undefined {
    if (this.refusal(owner, units)) return undefined
    this.#take(owner, units)
    return this.#reserved(owner, units)
  }

  /**
   * Resolves when there is room. A request above an owner's maximum gets that maximum.
   * @throws the signal's reason
   */
  async reserve(
    owner: string,
    units: number,
    { priority = 0, signal }: ReserveOptions = {},
  ): Promise<Reservation> {
    signal?.throwIfAborted()
    const most = Math.min(units, this.#perOwner)
    if (this.refusal(owner, most)) await this.#turn(owner, { units: most, priority, signal })
    else this.#take(owner, most)
    return this.#reserved(owner, most)
  }

  /** Runs `work` while it holds one unit. @throws the signal's reason, and what `work` throws */
  async run<T>(owner: string, work: () => Promise<T>, options?: ReserveOptions): Promise<T> {
    const place = await this.reserve(owner, 1, options)
    try {
      return await work()
    } finally {
      place.release()
    }
  }

  #turn(owner: string, { units, priority, signal }: ReserveOptions & Pick<Waiting, 'units' | 'priority'>) {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const give = () => {
      this.#leave(owner, entry)
      reject(signal!.reason)
      this.#serve()
    }
    const entry: Waiting = {
      units,
      priority,
      grant: () => {
        signal?.removeEventListener('abort', give)
        this.#take(owner, units)
        resolve()
      },
    }
    signal?.addEventListener('abort', give, { once: true })
    const queue = this.#waiting.get(owner) ?? []
    this.#waiting.set(owner, queue)
    queue.splice(queue.findLastIndex((other) => other.priority <= priority) + 1, 0, entry)
    this.#serve()
    return promise
  }

  #leave(owner: string, entry: Waiting): void {
    const queue = this.#waiting.get(owner)!
    queue.splice(queue.indexOf(entry), 1)
    if (queue.length === 0) this.#waiting.delete(owner)
  }

  #serve(): void {
    for (let owner = this.#next(); owner !== undefined; owner = this.#next()) {
      const queue = this.#waiting.get(owner)!
      const [entry] = queue
      if (entry!.units > this.#free) return
      queue.shift()
      this.#waiting.delete(owner)
      if (queue.length > 0) this.#waiting.set(owner, queue)
      entry!.grant()
    }
  }

  /** The waiting owner that holds the least, of those whose first request is within their share. */
  #next(): string | undefined {
    let next: string | undefined
    let least = Number.POSITIVE_INFINITY
    for (const [owner, [first]] of this.#waiting) {
      const held = this.heldBy(owner)
      if (held >= least || !this.#isFair(held, first!.units)) continue
      next = owner
      least = held
    }
    return next
  }

  /** Whether an owner that holds `held` may take more. */
  #isFair(held: number, units: number): boolean {
    const total = held + units
    return total <= this.#perOwner && (!this.#leavesRoom || total <= this.#free - units)
  }

  #reserved(owner: string, units: number): Reservation {
    let held = units
    const shrink = (to: number) => {
      const left = Math.min(to, held)
      this.#take(owner, left - held)
      held = left
      this.#serve()
    }
    return {
      shrink,
      release: () => shrink(0),
      tryGrow: (more) => {
        if (this.refusal(owner, more)) return false
        this.#take(owner, more)
        held += more
        return true
      },
    }
  }

  #take(owner: string, units: number): void {
    this.#free -= units
    const held = this.heldBy(owner) + units
    if (held > 0) this.#held.set(owner, held)
    else this.#held.delete(owner)
  }
}
