import { ImageError } from '../errors.ts'
import { imageFaults } from './faults.ts'

export interface HostBreakerOptions {
  /** Failures in a row after which a host is left alone; default 8. */
  failures?: number
  /** Time for which it is left alone at first, ms; doubles while it keeps failing. Default 5,000. */
  pauseMs?: number
  /** Longest such time, ms; default 60,000. */
  maxPauseMs?: number
  /** Unix ms. */
  now?(): number
}

/** A host, as one owner finds it: others neither suffer from it nor see it. */
export interface Visit {
  owner: string
  /** `https://example.com:8443` */
  origin: string
  /** Waits for the outcome of another visit; the time does not count for this one. */
  outside<T>(work: Promise<T>): Promise<T>
}

interface HostState {
  failures: number
  /** Set while the host is left alone. */
  closed?: { until: number; ms: number; cause: ImageError }
  /** Resolves when the one visit that tries whether the host is back has ended. */
  probe?: Promise<unknown>
}

/** Hosts remembered at most, of those that fail. */
const maxHosts = 10_000

/**
 * Leaves hosts alone that do not answer: after some failures in a row, fetches fail at once for a while, then a single
 * one tries whether the host is back. Any answer, an error status too, ends it.
 */
export class HostBreaker {
  readonly #options: Required<HostBreakerOptions>
  readonly #hosts = new Map<string, HostState>()

  constructor(options: HostBreakerOptions = {}) {
    this.#options = { failures: 8, pauseMs: 5_000, maxPauseMs: 60_000, now: Date.now, ...options }
  }

  /** Hosts that failed last. */
  get failing(): number {
    return this.#hosts.size
  }

  /**
   * Fetches from a host.
   * @throws ImageError `image_url_unreachable` while the host is left alone; what `fetch` throws
   */
  async visit<T>(visit: Visit, fetch: () => Promise<T>): Promise<T> {
    const key = `${visit.owner} ${visit.origin}`
    for (let state = this.#hosts.get(key); state?.closed; state = this.#hosts.get(key)) {
      const { until, cause } = state.closed
      const leftMs = until - this.#options.now()
      if (leftMs > 0) throw imageFaults.notAnswering(state.failures, leftMs, cause)
      if (!state.probe) return this.#probe(key, state, fetch)
      await visit.outside(state.probe.catch(() => {}))
    }
    return this.#try(key, fetch)
  }

  #probe<T>(key: string, state: HostState, fetch: () => Promise<T>): Promise<T> {
    const probe = this.#try(key, fetch)
    state.probe = probe
    const end = () => {
      state.probe = undefined
    }
    probe.then(end, end)
    return probe
  }

  async #try<T>(key: string, fetch: () => Promise<T>): Promise<T> {
    try {
      const result = await fetch()
      this.#hosts.delete(key)
      return result
    } catch (error) {
      if (isSilence(error)) this.#failed(key, error)
      else if (error instanceof ImageError) this.#hosts.delete(key)
      throw error
    }
  }

  #failed(key: string, cause: ImageError): void {
    const { failures: most, pauseMs, maxPauseMs, now } = this.#options
    const known = this.#hosts.get(key)
    // Those that were under way when it was closed say nothing new.
    if (known?.closed && now() < known.closed.until) return
    const state: HostState = known ?? { failures: 0 }
    state.failures++
    const ms = state.closed ? Math.min(2 * state.closed.ms, maxPauseMs) : pauseMs
    if (state.failures >= most) state.closed = { until: now() + ms, ms, cause }
    this.#hosts.delete(key)
    this.#hosts.set(key, state)
    if (this.#hosts.size > maxHosts) this.#hosts.delete(this.#hosts.keys().next().value!)
  }
}

const silences: ReadonlySet<string> = new Set(['image_url_timeout', 'image_url_unreachable'])

const isSilence = (error: unknown): error is ImageError =>
  error instanceof ImageError && silences.has(error.code)
