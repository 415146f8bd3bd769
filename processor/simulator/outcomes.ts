import type { Arrival } from './traces.ts'

const fates = { open: 0, answered: 1, shed: 2 } as const

/** What became of each request of a trace. */
export class Outcomes {
  readonly arrivals: readonly Arrival[]
  /** When the caller had the answer, ms since the trace began; NaN for who got none. */
  readonly answeredAt: Float64Array
  /** The level that the image was run at, where it was answered. */
  readonly level: Uint16Array
  readonly #fate: Uint8Array
  /** Requests that were neither answered nor turned away yet. */
  open: number
  shed = 0

  constructor(arrivals: readonly Arrival[]) {
    this.arrivals = arrivals
    this.open = arrivals.length
    this.answeredAt = new Float64Array(arrivals.length).fill(Number.NaN)
    this.level = new Uint16Array(arrivals.length)
    this.#fate = new Uint8Array(arrivals.length)
  }

  /** @throws Error when the request had its answer already: nothing may be served twice */
  answer(request: number, { at, level }: { at: number; level: number }): void {
    this.#settle(request, fates.answered)
    this.answeredAt[request] = at
    this.level[request] = level
  }

  /** @throws Error when the request had its answer already */
  turnAway(request: number): void {
    this.#settle(request, fates.shed)
    this.shed++
  }

  isAnswered(request: number): boolean {
    return this.#fate[request] === fates.answered
  }

  isShed(request: number): boolean {
    return this.#fate[request] === fates.shed
  }

  #settle(request: number, fate: number): void {
    if (this.#fate[request] !== fates.open) throw new Error(`Request ${request} was answered twice.`)
    this.#fate[request] = fate
    this.open--
  }
}
