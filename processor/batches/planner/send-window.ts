/** Work for about this long is in the stream: enough that no processor waits for a planner, seconds. */
const horizonSeconds = 30
const fewest = 16
const most = 10_000
/** Every batch gets some, however many there are. */
const leastShare = 2
/** Share of the window that is given by need; the rest is shared equally, so that small batches get through. */
const needShare = 0.5

export interface SendWindowOptions {
  /** Shards that the processors finish, over all batches. */
  shardsPerSecond: number
  /** Lines per second that this batch takes to be done in time. */
  need: number
  /** The batches that have shards to send, this one among them. */
  senders: Senders
}

export interface Senders {
  batches: number
  /** Sum of what they need, lines per second. */
  need: number
}

/**
 * Shards that one batch may have in the stream. What is sent first is done first, so a batch may not fill the stream:
 * a small one that comes later waits for no more than what the others have sent, and one that is pressed for time has
 * more there than one that has plenty.
 */
export function sendWindow({ shardsPerSecond, need, senders }: SendWindowOptions): number {
  const total = Math.min(Math.max(shardsPerSecond * horizonSeconds, fewest), most)
  const equal = 1 / Math.max(senders.batches, 1)
  const byNeed = senders.need === 0 ? equal : Math.min(need / senders.need, 1)
  return Math.max(Math.ceil(total * (equal + needShare * (byNeed - equal))), leastShare)
}
