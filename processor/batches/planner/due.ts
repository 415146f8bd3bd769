import type { Batch } from '../../../edge/contract/batch.ts'

/** Share of its completion window that a batch keeps in reserve, and between what, ms. */
const reserveShare = 0.05
const leastReserveMs = 5_000
const mostReserveMs = 10 * 60_000

/**
 * When the last line of a batch is to have its result, unix ms: before the batch expires, with time for shards that
 * are slow or come again and for putting the files together.
 */
export function dueAt({ created_at, expires_at }: Pick<Batch, 'created_at' | 'expires_at'>): number {
  const windowMs = 1000 * (expires_at - created_at)
  return 1000 * expires_at - Math.min(Math.max(reserveShare * windowMs, leastReserveMs), mostReserveMs)
}
