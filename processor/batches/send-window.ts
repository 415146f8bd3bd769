/** Work for about this long is in the stream: enough that no processor waits for a planner, ms. */
const horizonSeconds = 30
const fewest = 16
const most = 10_000
/** Every batch gets some, however many there are. */
const leastShare = 2

export interface SendWindowOptions {
  /** Shards that the processors finish, over all batches. */
  shardsPerSecond: number
  /** Batches that have shards to send. */
  batches: number
}

/**
 * Shards that one batch may have in the stream. What is sent first is done first, so a batch may not fill the stream:
 * a small one that comes later waits for no more than what the others have sent.
 */
export function sendWindow({ shardsPerSecond, batches }: SendWindowOptions): number {
  const total = Math.min(Math.max(shardsPerSecond * horizonSeconds, fewest), most)
  return Math.max(Math.ceil(total / Math.max(batches, 1)), leastShare)
}
