import type { BatchStatus, StoredBatch } from '../../edge/contract/batch.ts'
import { keys } from '../../edge/contract/keys.ts'
import {
  type Control,
  decodeShardJob,
  encodeControl,
  type ShardJob,
  type ShardTally,
} from '../../edge/contract/shard.ts'
import { topics } from '../../edge/contract/topics.ts'
import { MissingSliceError, type SliceStores } from '../../infra/store/slices.ts'
import { getJson } from '../../infra/store/store.ts'
import type { ConsumedRecord, Stream } from '../../infra/stream/stream.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { linkTo } from '../../infra/telemetry/tracing.ts'
import { ManifestRevokedError } from '../batches/manifest/grants.ts'
import type { LineOutcome } from '../batches/shard/line.ts'
import { createShardRepayer, type Repaid, type RepayJob } from '../batches/shard/repay.ts'
import { readShard, writeShard } from '../batches/shard/results.ts'
import { createShardRunner, type ShardResults, type ShardRunnerOptions } from '../batches/shard/runner.ts'
import { failedShard, type ShardFault } from '../batches/shard/unrun.ts'
import { isRetry, type RecordHandler } from '../delivery/dead-letters.ts'

export interface BatchJobsOptions extends SliceStores, Pick<ShardRunnerOptions, 'captioner' | 'images'> {
  stream: Pick<Stream, 'send'>
  metrics: Metrics
  log: { warn(fields: Record<string, unknown>, message: string): void }
  /** Unix ms. */
  now(): number
}

/**
 * Handles records of the batch topic: runs the lines of a shard, writes their results as one object, and notifies the
 * planners. The object is created once, so a shard that runs twice counts once. Only a shard resent from the dead
 * letters replaces its error lines, while its batch is in progress, and pruned lines are captioned again on a planner's
 * request.
 *
 * Rejects, with nothing written, when the shard can be retried later (shutdown, store unavailable), and when it belongs
 * into the dead letters; then `onDead` writes error lines.
 */
export function batchJobs(options: BatchJobsOptions): RecordHandler {
  const { captioner, store, stream, log } = options
  const metrics = measureBatches(options.metrics)
  const runShard = createShardRunner({ ...options, ...metrics })
  const repayShard = createShardRepayer(options)

  async function handle(record: ConsumedRecord, signal: AbortSignal): Promise<void> {
    const job = decodeShardJob(record)
    if (isRepay(job)) return repay(job, signal)
    const stored = await readShard(store, job)
    if (stored && !isRetry(record)) return finish(job, stored.tally, 'known')
    const batch = await getJson<StoredBatch>(store, keys.batch(job.tenant, job.batch))
    const status = batch?.batch.status
    linkTo(batch?.traceparent)
    // Its results would never be deleted: those of the batch have been joined and deleted.
    if (status && !acceptsShards(status))
      return log.warn(nameOf(job), 'shard resent, but its batch has ended')
    const results = await run(job, signal)
    if (!results) return metrics.onShard('cancelled')
    const tally = await writeShard(store, job, results, stored)
    await finish(job, tally, 'done', stored ? { replaced: true } : {})
  }

  async function repay(job: RepayJob, signal: AbortSignal): Promise<void> {
    const repaid = job.model === captioner.model ? await repayOrKeep(job, signal) : await keep(job)
    if (!repaid) return metrics.onShard('cancelled')
    metrics.onRepaid(repaid.lines)
    const { tally, pending } = repaid
    await announce({ type: 'shard_repaid', ...nameOf(job), tally, pending })
    metrics.onShard('repaid')
  }

  async function repayOrKeep(job: RepayJob, signal: AbortSignal): Promise<Repaid | undefined> {
    try {
      return await repayShard(job, signal)
    } catch (error) {
      if (!(error instanceof MissingSliceError)) throw error
      return keep(job)
    }
  }

  /** Leaves the shard as it is, for good. */
  async function keep(job: RepayJob): Promise<Repaid | undefined> {
    const stored = await readShard(store, job)
    return stored && { tally: stored.tally, lines: 0, pending: 0 }
  }

  async function run(job: ShardJob, signal: AbortSignal): Promise<ShardResults | undefined> {
    if (job.model !== captioner.model) return fail(job, modelGone(job.model, captioner.model))
    try {
      return await runShard(job, signal)
    } catch (error) {
      if (!(error instanceof MissingSliceError)) throw error
      return fail(job, error instanceof ManifestRevokedError ? inputRevoked : inputGone)
    }
  }

  async function fail(job: ShardJob, fault: ShardFault): Promise<ShardResults> {
    const results = await failedShard(job, fault, options)
    metrics.onFailed(fault.code, results.tally.failed)
    return results
  }

  async function onDead(record: ConsumedRecord): Promise<void> {
    const job = jobOf(record)
    if (!job) return
    if (isRepay(job)) {
      const kept = await keep(job)
      if (kept) await announce({ type: 'shard_repaid', ...nameOf(job), tally: kept.tally, pending: 0 })
      return metrics.onShard('dead')
    }
    const stored = await readShard(store, job)
    const tally = stored?.tally ?? (await writeShard(store, job, await fail(job, shardFailed)))
    await finish(job, tally, 'dead')
  }

  async function finish(
    job: ShardJob,
    tally: ShardTally,
    end: 'done' | 'known' | 'dead',
    how: { replaced?: true } = {},
  ): Promise<void> {
    await announce({ type: 'shard_done', ...nameOf(job), tally, ...how })
    metrics.onShard(end)
  }

  const announce = (control: Control) => stream.send(topics.control, [encodeControl(control)])

  return { handle, onDead }
}

/** Before the results of the batch are joined. */
const acceptsShards = (status: BatchStatus) => status === 'validating' || status === 'in_progress'

const isRepay = (job: ShardJob): job is RepayJob => job.repay !== undefined

/** Undefined for a record that cannot be read. */
function jobOf(record: ConsumedRecord): ShardJob | undefined {
  try {
    return decodeShardJob(record)
  } catch {
    return undefined
  }
}

const nameOf = ({ tenant, batch, shard }: ShardJob) => ({ tenant, batch, shard })

const modelGone = (asked: string, served: string) => ({
  code: 'model_not_found',
  message: `The model "${asked}" is no longer served; "${served}" is. Create a batch for that model.`,
})

const inputGone = {
  code: 'input_not_found',
  message: 'The input was deleted before this line was read. Create the batch again, and keep its input.',
}

const inputRevoked = {
  code: 's3_not_granted',
  message:
    'This tenant may no longer read the input of the batch. Ask the operator to grant it, and create the batch again.',
}

const shardFailed = {
  code: 'shard_failed',
  message:
    'The service failed on the lines of this shard. Resubmit the line; the operator finds the reason in the dead letters.',
}

/**
 * Outcome of a shard: `known` if its results were already stored; `repaid` if its pruned lines were captioned again, as
 * far as there was time.
 */
export type ShardEnd = 'done' | 'known' | 'cancelled' | 'dead' | 'repaid'

/** Metrics of the batch lane. */
export function measureBatches(metrics: Metrics) {
  const shards = metrics.counter({
    name: 'shards_total',
    help: 'Batch shards handled, by outcome.',
    labelNames: ['end'],
  })
  const lines = metrics.counter({
    name: 'batch_lines_total',
    help: 'Batch lines handled, by error code; ok for completed lines.',
    labelNames: ['code'],
  })
  const repaid = metrics.counter({
    name: 'batch_lines_repaid_total',
    help: 'Pruned batch lines that were captioned again at full quality.',
  })
  const inFlight = metrics.gauge({
    name: 'batch_lines_in_flight',
    help: 'Batch lines whose image is being fetched or captioned.',
  })
  const fetching = metrics.histogram({
    name: 'batch_image_fetch_seconds',
    help: 'Time to fetch the image of a line.',
    buckets: [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30],
  })

  return {
    onShard: (end: ShardEnd) => shards.inc({ end }),
    onLine: (outcome: LineOutcome) => lines.inc({ code: 'captioned' in outcome ? 'ok' : outcome.code }),
    onFailed: (code: string, count: number) => lines.inc({ code }, count),
    onRepaid: (count: number) => repaid.inc(count),
    onInFlight: (change: 1 | -1) => inFlight.inc(change),
    onFetched: (seconds: number) => fetching.observe(seconds),
  }
}
