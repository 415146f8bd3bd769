import { FairBudget } from '../../infra/fair-budget.ts'
import { retryLater, type TurbineError } from '../contract/errors.ts'
import type { BodyMemory } from '../deps.ts'

export interface BodyMemoryOptions {
  /** Bytes of all bodies and uploads together. */
  bytes: number
  /** Time that a request waits for memory before it is refused, ms. Default 2,000; 0 refuses at once. */
  waitMs?: number
}

/** Requests that wait for memory: each holds what its connection has buffered. */
const maxWaiting = 256

/**
 * Shares the memory of request bodies and uploads between tenants. None gets more than what is left for others then, and
 * who has least is served first.
 *
 * @example
 * const reserved = await memory.reserve('acme', 20_000_000, c.req.raw)
 * reserved.release()
 */
export function createBodyMemory({ bytes: size, waitMs = 2_000 }: BodyMemoryOptions): BodyMemory {
  const budget = new FairBudget({ size, leavesRoom: true })
  let waiting = 0
  const refusal = (tenant: string, bytes: number): TurbineError =>
    budget.refusal(tenant, bytes) === 'owner' ? shareUsed() : full()

  async function reserve(tenant: string, bytes: number, { signal }: Pick<Request, 'signal'>) {
    const late = new AbortController()
    const timer = setTimeout(() => late.abort(refusal(tenant, bytes)), waitMs)
    waiting++
    try {
      return await budget.reserve(tenant, bytes, { signal: AbortSignal.any([late.signal, signal]) })
    } finally {
      waiting--
      clearTimeout(timer)
    }
  }

  return {
    async reserve(tenant, asked, request) {
      // A body that is larger than any share gets all of one.
      const bytes = Math.min(asked, Math.floor(size / 2))
      const reserved = budget.tryReserve(tenant, bytes)
      if (reserved) return reserved
      if (waitMs === 0 || waiting >= maxWaiting) throw refusal(tenant, bytes)
      return reserve(tenant, bytes, request)
    },
    grow(tenant, reserved, bytes) {
      if (!reserved.tryGrow(bytes)) throw refusal(tenant, bytes)
    },
  }
}

const shareUsed = () =>
  retryLater(
    'too_many_bytes_in_flight',
    'Bodies of this tenant that are being received take its share of the memory. Retry when one has ended, or send fewer or smaller ones at a time.',
    { status: 429, retryAfterSeconds: 2 },
  )

const full = () =>
  retryLater('memory_full', 'The memory for request bodies is used up. Retry the request.', {
    retryAfterSeconds: 2,
  })
