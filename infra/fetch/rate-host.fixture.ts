import { imageFaults } from './faults.ts'

export interface RateHostOptions {
  /** Requests per second. */
  rate: number
  /** Requests that it saves up while nobody asks; default: those of a second. */
  burst?: number
  /** Of each answer, ms; default 50. */
  latencyMs?: number
  /** `Retry-After` of its refusals, ms; undefined: it says nothing. */
  afterMs?: number
  status?: 429 | 503
}

/** A host that limits its callers, as image CDNs do: a token bucket. On the clock of the test. */
export class RateHost {
  readonly #options: RateHostOptions
  readonly #burst: number
  #tokens: number
  #at = Date.now()
  delivered = 0
  refused = 0

  constructor(options: RateHostOptions) {
    this.#options = options
    this.#burst = options.burst ?? options.rate
    this.#tokens = this.#burst
  }

  /** Share of the requests that were beyond its limit. */
  get overLimitShare(): number {
    return this.refused / (this.delivered + this.refused)
  }

  async ask(): Promise<'image'> {
    const { rate, latencyMs = 50, afterMs, status = 429 } = this.#options
    const now = Date.now()
    this.#tokens = Math.min(this.#burst, this.#tokens + ((now - this.#at) * rate) / 1000)
    this.#at = now
    const isWithin = this.#tokens >= 1
    if (isWithin) this.#tokens--
    await new Promise((resolve) => setTimeout(resolve, latencyMs))
    if (isWithin) {
      this.delivered++
      return 'image'
    }
    this.refused++
    throw imageFaults.badStatus({ status, host: 'limited.example', afterMs })
  }
}
