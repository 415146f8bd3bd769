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
import { FairBudget } from '../../infra/fair-budget.ts'
import {
  MissingSliceError,
  RefusedSliceError,
  type SliceStores,
  SliceUnavailableError,
  sliceBytes,
} from '../../infra/store/slices.ts'
import { getJson } from '../../infra/store/store.ts'
import type { ConsumedRecord, Sharing, Stream } from '../../infra/stream/stream.ts'
import type { Metrics } from '../../infra/telemetry/metrics.ts'
import { linkTo } from '../../infra/telemetry/tracing.ts'
import { unlessAborted } from '../../infra/timing.ts'
import { probeKey } from '../batches/callers-bucket.ts'
import { ManifestRevokedError } from '../batches/manifest/grants.ts'
import type { LineOutcome } from '../batches/shard/line.ts'
import { priorityOf } from '../batches/shard/priority.ts'
import { createShardRepayer, type Repaid, type RepayJob } from '../batches/shard/repay.ts'
import { readShard, writeShard } from '../batches/shard/results.ts'
import { createShardRunner, type ShardResults, type ShardRunnerOptions } from '../batches/shard/runner.ts'
import { failedShard, type ShardFault } from '../batches/shard/unrun.ts'
import { isRetry, type RecordHandler } from '../delivery/dead-letters.ts'
import { ResultWrites } from '../delivery/result-writes.ts'

export interface BatchJobsOptions
  extends SliceStores,
    Pick<ShardRunnerOptions, 'captioner' | 'images' | 'fetches' | 'imageLimits'> {
  stream: Pick<Stream, 'send'>
  metrics: BatchMetrics
  /** Writes of results, of all lanes; default: this lane's own. */
  results?: ResultWrites
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
  const { captioner, store, stream, log, now, metrics, results: writes = new ResultWrites() } = options
  const runShard = createShardRunner({ ...options, ...metrics })
  const repayShard = createShardRepayer(options)
  const lineMemory = new FairBudget({ size: linesBytes, perOwner: linesBytes / 2 })
  /** Batches whose input cannot be read, and since when, unix ms. */
  const inputFailures = new Map<string, number>()
  /** Shards that run, until they end. */
  const running = new Map<string, Promise<unknown>>()

  /** A shard that runs here already, and was sent again because it takes long, is not run twice at a time. */
  async function handle(record: ConsumedRecord, signal: AbortSignal): Promise<void> {
    const job = decodeShardJob(record)
    if (isRepay(job)) return repay(job, signal)
    const key = `${job.tenant} ${job.batch} ${job.shard}`
    for (let other = running.get(key); other; other = running.get(key)) {
      record.leavePlace?.()
      await unlessAborted(other, signal)
    }
    const handled = handleShard(job, record, signal)
    const ended = handled.catch(() => {}).then(() => running.delete(key))
    running.set(key, ended)
    return handled
  }

  async function handleShard(job: ShardJob, record: ConsumedRecord, signal: AbortSignal): Promise<void> {
    const stored = await readShard(store, job)
    if (stored && !isRetry(record)) return finish(job, stored.tally, 'known')
    const batch = await batchOf(job)
    linkTo(batch?.traceparent)
    if (hasEnded(batch)) return log.warn(nameOf(job), 'shard resent, but its batch has ended')
    await writes.ready(signal)
    const results = await withLines(job, signal, () => run(job, signal, record))
    if (!results || (results.cancelled && hasEnded(await batchOf(job)))) return metrics.onShard('cancelled')
    const tally = await writes.write(() => writeShard(store, job, results, stored), signal)
    await finish(job, tally, 'done', stored ? { replaced: true } : {})
  }

  const batchOf = ({ tenant, batch }: ShardJob) => getJson<StoredBatch>(store, keys.batch(tenant, batch))

  async function repay(job: RepayJob, signal: AbortSignal): Promise<void> {
    const repaid =
      job.model === captioner.model
        ? await withLines(job, signal, () => repayOrKeep(job, signal))
        : await keep(job)
    if (!repaid) return metrics.onShard('cancelled')
    metrics.onRepaid(repaid.lines)
    const { tally, pending } = repaid
    await announce({ type: 'shard_repaid', ...nameOf(job), tally, pending })
    metrics.onShard('repaid')
  }

  /** Runs work that has the lines of a shard in memory. */
  async function withLines<T>({ tenant, slices }: ShardJob, signal: AbortSignal, work: () => Promise<T>) {
    const lines = await lineMemory.reserve(tenant, sliceBytes(slices), { signal })
    try {
      return await work()
    } finally {
      lines.release()
    }
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

  /** Gives its place to another shard while all of its lines wait for hosts, and tells the planner. */
  function waits(job: ShardJob, record: ConsumedRecord): void {
    record.leavePlace?.()
    announce({ type: 'shard_waiting', ...nameOf(job) }).catch((err: unknown) =>
      log.warn({ err, ...nameOf(job) }, 'a shard that waits is not announced'),
    )
  }

  async function run(
    job: ShardJob,
    signal: AbortSignal,
    record: ConsumedRecord,
  ): Promise<ShardResults | undefined> {
    if (job.model !== captioner.model) return fail(job, modelGone(job.model, captioner.model))
    try {
      const results = await runShard(job, signal, { onWaiting: () => waits(job, record) })
      inputFailures.delete(job.batch)
      return results
    } catch (error) {
      if (error instanceof ManifestRevokedError) return fail(job, inputRevoked)
      if (error instanceof RefusedSliceError) return fail(job, inputUnavailable(error))
      if (error instanceof MissingSliceError) return fail(job, inputGone)
      if (!(error instanceof SliceUnavailableError)) throw error
      await assertPatience(job, error)
      return fail(job, inputUnavailable(error))
    }
  }

  /**
   * Rejects while the bucket that has the input may still recover, so that the shard comes again later.
   * @throws the error; StoreUnavailableError when the service's own store is away too
   */
  async function assertPatience({ batch, expiresAt }: ShardJob, error: SliceUnavailableError): Promise<void> {
    await store.head(probeKey)
    const since = inputFailures.get(batch) ?? now()
    inputFailures.set(batch, since)
    if (inputFailures.size > maxFailingInputs) inputFailures.delete(inputFailures.keys().next().value!)
    if (now() - since < callersInputMs && now() < expiresAt) throw error
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

/** Shares shards between tenants; those of a tenant's urgent batches go first. */
export const shardSharing: Pick<Sharing, 'ownerOf' | 'priorityOf'> = {
  ownerOf: ({ headers }) => headers.tenant ?? '',
  priorityOf: (record) => priorityOf(jobOf(record)?.expiresAt ?? 0, record.timestamp),
}

/** Before the results of the batch are joined. */
const openStatuses: readonly BatchStatus[] = ['validating', 'in_progress', 'cancelling']

/** Results of its shards would never be deleted: those of the batch have been joined and deleted. */
const hasEnded = (stored: StoredBatch | undefined) =>
  stored !== undefined && !openStatuses.includes(stored.batch.status)

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

/** Maximum bytes of lines of running shards; a shard has 16 MiB, and mostly far less. */
const linesBytes = 128 * 1024 * 1024

/** Time for which shards come again whose lines are in a bucket of the caller that cannot serve, ms. */
const callersInputMs = 15 * 60_000
const maxFailingInputs = 1000

const inputUnavailable = ({ message }: Error) => ({
  code: 'input_unavailable',
  message: `The input could not be read: ${message} Submit the line again once it can.`,
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

export type BatchMetrics = ReturnType<typeof measureBatches>

/** Metrics of the batch lane, of all models. */
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
