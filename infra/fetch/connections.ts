import { type buildConnector, Pool } from 'undici'

export interface ConnectionsOptions {
  connect: buildConnector.connector
  /** Time for which an idle connection is kept for the next image of its host, ms; default 4,000. */
  idleMs?: number
  /** Hosts whose idle connections are kept, at most; default 64. */
  hosts?: number
  /** Connections to one host at most; default 128. */
  perHost?: number
}

/**
 * Connections to image hosts: few, and for a short time. The hosts used longest ago are closed first; what runs there
 * goes on to its end.
 */
export class Connections {
  readonly #options: Required<ConnectionsOptions>
  /** By origin; the one used longest ago is first. */
  readonly #pools = new Map<string, { pool: Pool; usedAt: number }>()
  readonly #closing = new Set<Pool>()
  readonly #sweeping: NodeJS.Timeout

  constructor(options: ConnectionsOptions) {
    this.#options = { idleMs: 4_000, hosts: 64, perHost: 128, ...options }
    this.#sweeping = setInterval(() => this.#sweep(), this.#options.idleMs).unref()
  }

  /** The dispatcher of an origin, e.g. `https://example.com`, for one request. */
  to(origin: string): Pool {
    const pool = this.#pools.get(origin)?.pool ?? this.#open(origin)
    this.#pools.delete(origin)
    this.#pools.set(origin, { pool, usedAt: performance.now() })
    for (const [oldest] of this.#pools) {
      if (this.#pools.size <= this.#options.hosts) break
      this.#close(oldest)
    }
    return pool
  }

  /** Ends everything at once. */
  async destroy(): Promise<void> {
    clearInterval(this.#sweeping)
    const pools = [...[...this.#pools.values()].map(({ pool }) => pool), ...this.#closing]
    this.#pools.clear()
    await Promise.all(pools.map((pool) => pool.destroy()))
  }

  #open(origin: string): Pool {
    const { connect, idleMs, perHost } = this.#options
    // A server may ask for less, but for no longer.
    const keepAlive = { keepAliveTimeout: idleMs, keepAliveMaxTimeout: idleMs }
    return new Pool(origin, { connect, connections: perHost, ...keepAlive })
  }

  #sweep(): void {
    const before = performance.now() - this.#options.idleMs
    for (const [origin, { usedAt }] of this.#pools) if (usedAt < before) this.#close(origin)
  }

  #close(origin: string): void {
    const { pool } = this.#pools.get(origin)!
    this.#pools.delete(origin)
    this.#closing.add(pool)
    pool.close().finally(() => this.#closing.delete(pool))
  }
}
