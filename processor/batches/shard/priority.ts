/** Share of a shard's remaining time by which more urgent shards may overtake it, and its maximum, ms. */
const delayShare = 1 / 60
const maxDelayMs = 60_000

/**
 * Priority of a shard that arrives at `now`; the lowest runs first. Shards of urgent batches run earlier, but no shard
 * waits for ones that arrive more than a minute later, so that urgent batches starve nobody, and shards with hours left
 * keep their order. All in unix ms.
 */
export function priorityOf(expiresAt: number, now: number): number {
  return now + Math.min(Math.max(delayShare * (expiresAt - now), 0), maxDelayMs)
}
