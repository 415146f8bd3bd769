import PQueue from 'p-queue'

/** Share of the time that is left to a shard for which it steps back behind more urgent ones, and at most, ms. */
const patience = 1 / 60
const longestPatienceMs = 60_000

/**
 * The turn of a shard that comes now, for comparison: the lower one goes first. The less time is left to its batch, the
 * earlier it is; yet none waits for shards that come more than a minute after it, so a batch with plenty of time is not
 * starved by urgent ones, and among those that have hours left the first comes first. All in unix ms.
 */
export function turnOf(expiresAt: number, now: number): number {
  return now + Math.min(Math.max(patience * (expiresAt - now), 0), longestPatienceMs)
}

/** Does a task when there is room; of those that wait, the one with the lowest turn goes first. */
export type InTurn = <T>(turn: number, task: () => Promise<T>) => Promise<T>

/** @example const fetching = inTurns(32); await fetching(turnOf(job.expiresAt, now()), () => fetch(url)) */
export function inTurns(concurrency: number): InTurn {
  const queue = new PQueue({ concurrency })
  return (turn, task) => queue.add(task, { priority: -turn })
}
