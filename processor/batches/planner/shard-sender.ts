import { earlierReading } from '../../../edge/contract/batch.ts'
import { encodeShardJob, type Repay, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import { jobTopic } from '../../../edge/contract/topics.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { listShards, readShard } from '../shard/results.ts'
import type { BatchContext } from './context.ts'
import { shardJob } from './plan.ts'
import type { BatchState } from './state.ts'

/** Shards that are sent together at most. */
export const sendAtOnce = 100

/** Shards of a batch that wait for slow hosts beside its share of the stream: other hosts' lines are behind them. */
const mostWaiting = 256

/** The shards to send now: as many as the batch may have in the stream. */
export function shardsToSend({ state, clock, sendWindow }: BatchContext): number[] {
  const { work } = state
  if (!state.mayRun(clock.now())) return []
  const waiting = Math.min(work.waiting.size, mostWaiting)
  const room = sendWindow.sizeFor(state, clock.now()) + waiting - work.outstanding.length
  return work.next(Math.min(room, sendAtOnce))
}

/** Sends these shards to the processors, through outages of the stream. */
export async function sendShards(context: BatchContext, shards: number[], repay?: Repay): Promise<void> {
  const { state, outages, stream, signal, ownTopics } = context
  const { model } = state.batch
  const records = shards.map((shard) => encodeShardJob({ ...jobOf(state, shard), repay }))
  const send = async () => {
    const { topic } = jobTopic('batch', (await ownTopics?.(model)) ? model : undefined)
    await stream.send(topic, records, { signal })
  }
  await outages.outlast(send, signal)
}

/** The jobs of the shards that are not done. */
export function* missingJobs(state: BatchState): Generator<ShardJob> {
  for (const shard of state.work.missing()) yield jobOf(state, shard)
}

function jobOf({ ref, batch, stored, work }: BatchState, shard: number): ShardJob {
  const { endpoint, model, turbine, expires_at, created_at } = batch
  const times = { expiresAt: expires_at * 1000, createdAt: created_at * 1000 }
  const { reading = earlierReading } = stored
  const base = { ...ref, endpoint, model, reading, maxPrune: turbine.max_prune, ...times }
  return shardJob(base, work.manifest, shard, work.shards[shard]!)
}

const readsAtOnce = 16

export interface DoneShard {
  shard: number
  tally: ShardTally
}

/**
 * Finds shards whose results are in the store but that are not marked as done.
 * @throws StoreUnavailableError
 */
export async function* findDoneShards({ store, state }: BatchContext): AsyncGenerator<DoneShard> {
  const { ref, work } = state
  async function* unknown() {
    for await (const shard of listShards(store, ref, work.done.firstMissing)) {
      if (!work.done.has(shard)) yield shard
    }
  }
  const read = async (shard: number) => {
    const stored = await readShard(store, { ...ref, shard })
    return stored && { shard, tally: stored.tally }
  }
  for await (const done of mapInOrder(unknown(), read, { concurrency: readsAtOnce })) if (done) yield done
}

/** Time without a finished shard after which the store is checked, ms. */
const quietMs = 10_000
/** Longest time between two checks of the store, since control records can be lost, ms. */
const countMs = 60_000
/** Time without a finished shard after which shards are sent again, ms; doubles each time. */
const resendMs = 10 * 60_000

/** Decides when outstanding shards are looked up in the store, and when they are sent again. */
export class ResendPolicy {
  #countedAt: number
  #resentAt: number
  #resendMs = resendMs

  /** @param now unix ms, as below */
  constructor(now: number) {
    this.#countedAt = now
    this.#resentAt = now
  }

  /**
   * Decides what to do now, and records it as done.
   * @param doneAt time at which the last shard was done
   */
  decide(now: number, doneAt: number): { count: boolean; resend: boolean } {
    if (doneAt > this.#resentAt) this.#resendMs = resendMs
    const resend = now - Math.max(doneAt, this.#resentAt) >= this.#resendMs
    // Look up before resending.
    const count = resend || now - doneAt >= quietMs || now - this.#countedAt >= countMs
    if (count) this.#countedAt = now
    if (resend) {
      this.#resentAt = now
      this.#resendMs *= 2
    }
    return { count, resend }
  }
}
