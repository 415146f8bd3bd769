export interface FairTurnsOptions {
  /** Who can have a turn at once. */
  size: number
  /** Default: none. */
  overtime?: Overtime
  /** ms. Default: the clock. */
  now?(): number
}

/** Work that takes long while others wait goes on beside theirs. */
export interface Overtime {
  /** Time of work that the others wait for, ms. */
  afterMs: number
  /** How many can be in overtime at once. */
  size: number
}

/** What a turn's work has to do with its turn. */
export interface Turn {
  /** Called by the work when it has what it needs; before, it is never in overtime. */
  begin(): void
  /** Called when others get the work's place. */
  onOvertime?(): void
}

interface RunningTurn extends Turn {
  owner: string
  /** undefined before `begin`. */
  beganAt?: number
  overtime: boolean
}

interface Waiting {
  start(turn: RunningTurn): void
}

/**
 * Turns that owners share by time: the next one goes to the owner whose turns took the least, so that one with slow
 * work cannot hold up another with quick work by taking every second turn. Time that nobody else wanted is free
 * (start-time fair queueing, Goyal et al., 1996).
 *
 * A turn cannot be interrupted, so one that takes long while another owner waits goes on in overtime: its place is free,
 * and its owner gets no other until it ends.
 *
 * @example
 * const turns = new FairTurns({ size: 4 })
 * await turns.run('acme', () => decoder.decode(image), signal)
 */
export class FairTurns {
  readonly #size: number
  readonly #overtime: Overtime
  readonly #now: () => number
  /** Of each owner: what it has used, counted from when others wanted it too, ms. */
  readonly #used = new Map<string, number>()
  /** By owner; the owner served longest ago is first. */
  readonly #waiting = new Map<string, Waiting[]>()
  /** What the owner served last had used: who comes now starts from there. */
  #served = 0
  readonly #running = new Set<RunningTurn>()
  #timer: NodeJS.Timeout | undefined

  constructor({ size, overtime = { afterMs: 0, size: 0 }, now = () => performance.now() }: FairTurnsOptions) {
    this.#size = size
    this.#overtime = overtime
    this.#now = now
  }

  /** Runs `work` in the owner's turn. @throws the signal's reason, and what `work` throws */
  async run<T>(owner: string, work: (turn: Turn) => Promise<T>, signal?: AbortSignal): Promise<T> {
    signal?.throwIfAborted()
    const turn = await this.#turn(owner, signal)
    const startedAt = this.#now()
    try {
      return await work(turn)
    } finally {
      this.#running.delete(turn)
      this.#used.set(owner, this.#usedBy(owner) + this.#now() - startedAt)
      this.#serve()
    }
  }

  #turn(owner: string, signal: AbortSignal | undefined): Promise<RunningTurn> {
    const { promise, resolve, reject } = Promise.withResolvers<RunningTurn>()
    const leave = () => {
      const left = this.#waiting.get(owner)!.filter((other) => other !== entry)
      if (left.length > 0) this.#waiting.set(owner, left)
      else this.#waiting.delete(owner)
      reject(signal!.reason)
    }
    const entry: Waiting = {
      start: (turn) => {
        signal?.removeEventListener('abort', leave)
        resolve(turn)
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
    while (this.#placesTaken() < this.#size || this.#makeRoom()) {
      const owner = this.#next()
      if (owner === undefined) return
      const [first, ...rest] = this.#waiting.get(owner)!
      this.#waiting.delete(owner)
      if (rest.length > 0) this.#waiting.set(owner, rest)
      this.#served = this.#usedBy(owner)
      this.#forget()
      first!.start(this.#start(owner))
    }
  }

  #start(owner: string): RunningTurn {
    const turn: RunningTurn = {
      owner,
      overtime: false,
      begin: () => {
        turn.beganAt = this.#now()
        this.#serve()
      },
    }
    this.#running.add(turn)
    return turn
  }

  /** Of the owners that wait and have nothing in overtime. */
  #next(): string | undefined {
    let next: string | undefined
    for (const owner of this.#waiting.keys())
      if (!this.#isInOvertime(owner) && (next === undefined || this.#usedBy(owner) < this.#usedBy(next)))
        next = owner
    return next
  }

  #placesTaken(): number {
    return this.#running.size - this.#inOvertime().length
  }

  #inOvertime(): RunningTurn[] {
    return [...this.#running].filter(({ overtime }) => overtime)
  }

  #isAwaited({ owner }: RunningTurn): boolean {
    return [...this.#waiting.keys()].some((other) => other !== owner && !this.#isInOvertime(other))
  }

  #isInOvertime(owner: string): boolean {
    return this.#inOvertime().some((turn) => turn.owner === owner)
  }

  /** Puts the longest turn for which another owner waits into overtime, or looks again when it has taken that long. */
  #makeRoom(): boolean {
    clearTimeout(this.#timer)
    if (this.#inOvertime().length >= this.#overtime.size) return false
    const [longest] = [...this.#running]
      .filter((turn) => !turn.overtime && turn.beganAt !== undefined && this.#isAwaited(turn))
      .toSorted((a, b) => a.beganAt! - b.beganAt!)
    if (!longest) return false
    const leftMs = longest.beganAt! + this.#overtime.afterMs - this.#now()
    if (leftMs > 0) {
      this.#timer = setTimeout(() => this.#serve(), leftMs)
      return false
    }
    longest.overtime = true
    longest.onOvertime?.()
    return true
  }

  /** Owners that have used no more than who comes now. */
  #forget(): void {
    for (const [owner, used] of this.#used) if (used <= this.#served) this.#used.delete(owner)
  }
}
