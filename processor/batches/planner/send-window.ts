import { ArrivalRate } from '../../scheduling/arrival-rate.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import type { BatchState } from './state.ts'
import { dueAt } from './status.ts'

/** Work kept in the stream, seconds: enough that no processor waits for a planner. */
const horizonSeconds = 30
const leastInStream = 16
const mostInStream = 10_000
/** Minimum shards of a batch. */
const leastShare = 2
/** Share of the window allotted by need; the rest is shared equally, so that small batches progress. */
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
 * Maximum shards of one batch in the stream. The stream is first in, first out, so a batch may not fill it: small
 * batches wait only for what others have sent, and urgent batches get more than others.
 */
export function sendWindow({ shardsPerSecond, need, senders }: SendWindowOptions): number {
  const total = Math.min(Math.max(shardsPerSecond * horizonSeconds, leastInStream), mostInStream)
  const equal = 1 / Math.max(senders.batches, 1)
  const byNeed = senders.need === 0 ? equal : Math.min(need / senders.need, 1)
  return Math.max(Math.ceil(total * (equal + needShare * (byNeed - equal))), leastShare)
}

/** Time over which the rate of shards is taken, ms. */
const rateMs = 15_000
/** Time between two sums of the batches' needs, ms. */
const sendersMs = 1_000

/** Shares the stream's capacity among the batches of a planner. */
export class SendWindow {
  readonly #batches: () => BatchState[]
  readonly #shardRate = new ArrivalRate({ timeConstantMs: rateMs })
  #senders: Senders & { until: number } = { batches: 0, need: 0, until: 0 }

  /** @param batches those that the planner runs */
  constructor(batches: () => BatchState[]) {
    this.#batches = batches
  }

  /** Counts a shard that was done at `now`, unix ms. */
  onShardDone(now: number): void {
    this.#shardRate.observe(now)
  }

  /** Shards that a batch may have in the stream at `now`, unix ms. */
  sizeFor(state: BatchState, now: number): number {
    if (now >= this.#senders.until) {
      const sending = this.#batches().filter((batch) => batch.isSending(now))
      const need = sending.reduce((sum, batch) => sum + needOf(batch, now), 0)
      this.#senders = { batches: sending.length, need, until: now + sendersMs }
    }
    const shardsPerSecond = this.#shardRate.perSecond(now)
    return sendWindow({ shardsPerSecond, need: needOf(state, now), senders: this.#senders })
  }
}

/** Lines per second that a batch needs to be done in time. */
const needOf = ({ batch, work }: BatchState, now: number) =>
  pressingRate([{ deadline: dueAt(batch), images: work.linesLeft }], now)
