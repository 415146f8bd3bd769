import { ArrivalRate } from '../../scheduling/arrival-rate.ts'
import { pressingRate } from '../../scheduling/desired-replicas.ts'
import type { BatchState } from './state.ts'
import { dueAt } from './status.ts'

/** Length of the work in the stream, seconds: enough that no processor waits for a planner. */
const horizonSeconds = 30
const leastInStream = 16
const mostInStream = 10_000
/** Shards that a batch gets however many batches there are. */
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
  const total = Math.min(Math.max(shardsPerSecond * horizonSeconds, leastInStream), mostInStream)
  const equal = 1 / Math.max(senders.batches, 1)
  const byNeed = senders.need === 0 ? equal : Math.min(need / senders.need, 1)
  return Math.max(Math.ceil(total * (equal + needShare * (byNeed - equal))), leastShare)
}

/** Time over which the rate of shards is taken, ms. */
const rateMs = 15_000
/** Time between two sums of the batches' needs, ms. */
const sendersMs = 1_000

/** The stream's room, shared among the batches of a planner. */
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

/** Lines per second that it takes a batch to be done in time. */
const needOf = ({ batch, work }: BatchState, now: number) =>
  pressingRate([{ deadline: dueAt(batch), images: work.linesLeft }], now)
