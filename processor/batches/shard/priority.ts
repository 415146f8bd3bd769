import PQueue from 'p-queue'

/** Share of the time left to a shard for which it steps back behind more urgent ones, and at most, ms. */
const delayShare = 1 / 60
const maxDelayMs = 60_000

/**
 * Priority of a shard that arrives at `now`; the lower one goes first. The less time is left to its batch, the earlier
 * it is; yet none waits for shards that arrive more than a minute after it, so a batch with plenty of time is not
 * starved by urgent ones, and among those that have hours left the first comes first. All in unix ms.
 */
export function priorityOf(expiresAt: number, now: number): number {
  return now + Math.min(Math.max(delayShare * (expiresAt - now), 0), maxDelayMs)
}

/** Runs a task when there is room; of those that wait, the one with the lowest priority goes first. */
export type PriorityLimit = <T>(priority: number, task: () => Promise<T>) => Promise<T>

/** @example const fetching = priorityLimit(32); await fetching(priorityOf(job.expiresAt, now()), () => fetch(url)) */
export function priorityLimit(concurrency: number): PriorityLimit {
  const queue = new PQueue({ concurrency })
  return (priority, task) => queue.add(task, { priority: -priority })
}
