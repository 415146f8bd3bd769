import type { Arrival } from './traces.ts'

const statuses = { open: 0, answered: 1, rejected: 2 } as const

/** Outcome of each request of a trace. */
export class Outcomes {
  readonly arrivals: readonly Arrival[]
  /** Time of the answer, ms since the trace began; NaN without one. */
  readonly answeredAt: Float64Array
  /** The level that the image was run at, where it was answered. */
  readonly level: Uint16Array
  readonly #status: Uint8Array
  /** Requests that were neither answered nor rejected yet. */
  open: number
  rejected = 0

  constructor(arrivals: readonly Arrival[]) {
    this.arrivals = arrivals
    this.open = arrivals.length
    this.answeredAt = new Float64Array(arrivals.length).fill(Number.NaN)
    this.level = new Uint16Array(arrivals.length)
    this.#status = new Uint8Array(arrivals.length)
  }

  /** @throws Error when the request was already answered */
  answer(request: number, { at, level }: { at: number; level: number }): void {
    this.#settle(request, statuses.answered)
    this.answeredAt[request] = at
    this.level[request] = level
  }

  /** @throws Error when the request was already answered */
  reject(request: number): void {
    this.#settle(request, statuses.rejected)
    this.rejected++
  }

  isAnswered(request: number): boolean {
    return this.#status[request] === statuses.answered
  }

  isRejected(request: number): boolean {
    return this.#status[request] === statuses.rejected
  }

  #settle(request: number, status: number): void {
    if (this.#status[request] !== statuses.open) throw new Error(`Request ${request} was answered twice.`)
    this.#status[request] = status
    this.open--
  }
}
