export interface FairTurnsOptions {
  /** Who can have a turn at once. */
  size: number
  /** ms. Default: the clock. */
  now?(): number
}

interface Waiting {
  begin(): void
}

/**
 * Turns that owners share by time: the next one goes to the owner whose turns took the least, so that one with slow
 * work cannot hold up another with quick work by taking every second turn. Time that nobody else wanted is free
 * (start-time fair queueing, Goyal et al., 1996).
 *
 * @example
 * const turns = new FairTurns({ size: 4 })
 * await turns.run('acme', () => decoder.decode(image), signal)
 */
export class FairTurns {
  readonly #size: number
  readonly #now: () => number
  /** Of each owner: what it has used, counted from when others wanted it too, ms. */
  readonly #used = new Map<string, number>()
  /** By owner; the owner served longest ago is first. */
  readonly #waiting = new Map<string, Waiting[]>()
  /** What the owner served last had used: who comes now starts from there. */
  #served = 0
  #running = 0

  constructor({ size, now = () => performance.now() }: FairTurnsOptions) {
    this.#size = size
    this.#now = now
  }

  /** Runs `work` in the owner's turn. @throws the signal's reason, and what `work` throws */
  async run<T>(owner: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    await this.#turn(owner, signal)
    const startedAt = this.#now()
    try {
      return await work()
    } finally {
      this.#running--
      this.#used.set(owner, this.#usedBy(owner) + this.#now() - startedAt)
      this.#serve()
    }
  }

  #turn(owner: string, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const leave = () => {
      const left = this.#waiting.get(owner)!.filter((other) => other !== entry)
      if (left.length > 0) this.#waiting.set(owner, left)
      else this.#waiting.delete(owner)
      reject(signal!.reason)
    }
    const entry = {
      begin() {
        signal?.removeEventListener('abort', leave)
        resolve()
      },
    }
    signal?.addEventListener('abort', leave, { once: true })
    const queue = this.#waiting.get(owner) ?? []
    queue.push(entry)
    this.#waiting.set(owner, queue)
    this.#serve()
    return promise
  }

  #usedBy(owner: string): number {
    return Math.max(this.#served, this.#used.get(owner) ?? 0)
  }

  #serve(): void {
    while (this.#running < this.#size) {
      const owner = this.#next()
      if (owner === undefined) return
      const [first, ...rest] = this.#waiting.get(owner)!
      this.#waiting.delete(owner)
      if (rest.length > 0) this.#waiting.set(owner, rest)
      this.#running++
      this.#served = this.#usedBy(owner)
      this.#forget()
      first!.begin()
    }
  }

  #next(): string | undefined {
    let next: string | undefined
    for (const owner of this.#waiting.keys())
      if (next === undefined || this.#usedBy(owner) < this.#usedBy(next)) next = owner
    return next
  }

  /** Owners that have used no more than who comes now. */
  #forget(): void {
    for (const [owner, used] of this.#used) if (used <= this.#served) this.#used.delete(owner)
  }
}
