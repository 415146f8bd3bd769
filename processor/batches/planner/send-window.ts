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
  /** Parts of an equal share: tenants, times the batches of this one. */
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
/** Batches of a tenant that send at a time, those due first: their number fills no stream. */
const tenantBatches = 32

/** Shares the stream's capacity among the tenants of a planner, and their batches. */
export class SendWindow {
  readonly #batches: () => BatchState[]
  readonly #shardRate = new ArrivalRate({ timeConstantMs: rateMs })
  #need = 0
  /** By tenant, those that send now, and those that wait until they may. */
  #tenants = new Map<string, { senders: number; late: Set<BatchState> }>()
  #until = 0

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
    if (now >= this.#until) this.#count(now)
    const tenant = this.#tenants.get(state.ref.tenant)
    if (tenant?.late.has(state)) return 0
    const batches = this.#tenants.size * (tenant?.senders ?? 1)
    const shardsPerSecond = this.#shardRate.perSecond(now)
    return sendWindow({ shardsPerSecond, need: needOf(state, now), senders: { batches, need: this.#need } })
  }

  #count(now: number): void {
    this.#until = now + sendersMs
    const sending = this.#batches().filter((batch) => batch.isSending(now))
    this.#need = sending.reduce((sum, batch) => sum + needOf(batch, now), 0)
    const byTenant = Map.groupBy(sending, ({ ref }) => ref.tenant)
    this.#tenants = new Map(
      [...byTenant].map(([tenant, batches]) => {
        const inOrder = batches.sort((a, b) => dueAt(a.batch) - dueAt(b.batch))
        const late = new Set(inOrder.slice(tenantBatches))
        return [tenant, { senders: inOrder.length - late.size, late }]
      }),
    )
  }
}

/** Lines per second that a batch needs to be done in time. */
const needOf = ({ batch, work }: BatchState, now: number) =>
  pressingRate([{ deadline: dueAt(batch), images: work.linesLeft }], now)
