import PQueue from 'p-queue'

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

/** Limits concurrency; of waiting tasks the one with the lowest priority runs first. */
export type PriorityLimit = <T>(priority: number, task: () => Promise<T>) => Promise<T>

/** @example const fetching = priorityLimit(32); await fetching(priorityOf(job.expiresAt, now()), () => fetch(url)) */
export function priorityLimit(concurrency: number): PriorityLimit {
  const queue = new PQueue({ concurrency })
  return (priority, task) => queue.add(task, { priority: -priority })
}
