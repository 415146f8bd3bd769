import { maxBodyBytes } from '../../../edge/contract/caption.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import { emptyTally, encodeShard, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import type { Tenant } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import { remember } from '../../../infra/remembered.ts'
import { readSlices, type SliceStores } from '../../../infra/store/slices.ts'
import { timeLimit } from '../../../infra/timing.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { assertManifestGranted, readTenant } from '../manifest/grants.ts'
import {
  BatchExpiredError,
  createLineRunner,
  type LineOutcome,
  type LineRun,
  type LineRunnerOptions,
} from './line.ts'
import { priorityLimit, priorityOf } from './priority.ts'

export interface ShardRunnerOptions
  extends SliceStores,
    Pick<LineRunnerOptions, 'images' | 'sleep' | 'now' | 'onFetched'> {
  captioner: Captioner
  /** Concurrent fetches, over all shards; default: enough for slow sources and fast devices. */
  fetches?: number
  /** Maximum bytes of images in memory; default: `fetches` images of the maximum size. */
  imageBytes?: number
  onLine?(outcome: LineOutcome): void
  /** Called with changes of the number of running lines. */
  onInFlight?(change: 1 | -1): void
}

/** Results of a shard, ready to be stored. */
export interface ShardResults {
  tally: ShardTally
  /** Encoded by `encodeShard`. */
  object: Uint8Array
}

/** Runs a shard from its first line to its last; undefined when its batch is cancelled. */
export type ShardRunner = (job: ShardJob, signal: AbortSignal) => Promise<ShardResults | undefined>

const leastFetches = 32

/**
 * Creates a runner of shards: it reads their lines, fetches the images and captions them in the batch lane. Lines of
 * all shards run concurrently, those of urgent batches first; results are in the order of the lines.
 *
 * A run rejects when the shard is to be retried: the store is unavailable, the processor shuts down, the signal aborts.
 * @throws MissingSliceError when the manifest is gone
 */
export function createShardRunner(options: ShardRunnerOptions): ShardRunner {
  const { captioner, now, onLine, onInFlight } = options
  const { fetches = Math.max(leastFetches, captioner.concurrency), imageBytes = fetches * maxBodyBytes } =
    options
  const { tenantOf, isCancelled } = createLookUps(options)
  const runLine = createLineRunner({ ...options, fetches, imageBytes, tenantOf })
  // Fetches the next images while the devices caption the current ones.
  const limit = priorityLimit(fetches + captioner.concurrency)

  return async (job, signal) => {
    const lines = await linesOf(job, options)
    const stopping = new AbortController()
    const expiry = timeLimit(job.expiresAt - now(), () => new BatchExpiredError())
    const priority = priorityOf(job.expiresAt, now())
    const lineRun: LineRun = {
      signal: AbortSignal.any([signal, stopping.signal]),
      expiry: expiry.signal,
      priority,
    }
    const run = async (line: ManifestLine) => {
      onInFlight?.(1)
      try {
        lineRun.signal.throwIfAborted()
        if (await isCancelled(job)) throw new BatchCancelledError()
        const outcome = await runLine(line, job, lineRun)
        if (outcome) onLine?.(outcome)
        return outcome
      } catch (error) {
        stopping.abort(error)
        throw error
      } finally {
        onInFlight?.(-1)
      }
    }
    try {
      return encodeResults(await settled(lines.map((line) => limit(priority, () => run(line)))))
    } catch (error) {
      const first: unknown = signal.aborted ? error : (stopping.signal.reason ?? error)
      if (first instanceof BatchCancelledError) return undefined
      throw first
    } finally {
      expiry.clear()
    }
  }
}

class BatchCancelledError extends BaseError {}

/**
 * Reads the lines of a shard without empty ones, of which there can be millions.
 * @throws MissingSliceError, ManifestRevokedError; StoreUnavailableError
 */
export async function linesOf(job: ShardJob, stores: SliceStores): Promise<ManifestLine[]> {
  await assertManifestGranted(job, stores)
  const lines: ManifestLine[] = []
  const bytes = readSlices(job.slices, stores)
  for await (const some of readLines(bytes, { firstLine: job.firstLine })) {
    for (const line of some) if (line.text?.trim() !== '') lines.push(line)
  }
  return lines
}

/** `Promise.all` that rejects only after all have ended, so that a retry does not overlap with them. */
export async function settled<T>(promises: Promise<T>[]): Promise<T[]> {
  await Promise.allSettled(promises)
  return Promise.all(promises)
}

/** Encodes the results of a shard. */
export function encodeResults(outcomes: (LineOutcome | undefined)[]): ShardResults {
  const tally = { ...emptyTally }
  const output: string[] = []
  const errors: string[] = []
  for (const outcome of outcomes) {
    if (!outcome) continue
    if ('captioned' in outcome) {
      const { prune_level, prune_ratio, tokens_in, output_tokens } = outcome.captioned.turbine
      tally.completed++
      if (prune_level > 0) tally.pruned++
      tally.pruneRatioSum += prune_ratio
      tally.inputTokens += tokens_in
      tally.outputTokens += output_tokens
      output.push(outcome.text)
    } else {
      tally[outcome.dropped ? 'dropped' : 'failed']++
      errors.push(outcome.text)
    }
  }
  return { tally, object: encodeShard(tally, output, errors) }
}

const cancelCacheMs = 1_000
const tenantCacheMs = 10_000

/** Look-ups in the store that every line of a shard needs, cached for seconds. */
export function createLookUps({ store, now }: Pick<ShardRunnerOptions, 'store' | 'now'>) {
  const hasMark = remember({
    load: async (mark) => (await store.head(mark)) !== undefined,
    freshMs: () => cancelCacheMs,
    now,
    shared: true,
  })
  return {
    tenantOf: remember<Tenant>({
      load: (id) => readTenant(store, id),
      freshMs: () => tenantCacheMs,
      now,
      shared: true,
    }),
    isCancelled: ({ tenant, batch }: Pick<ShardJob, 'tenant' | 'batch'>): Promise<boolean> =>
      hasMark(keys.batchCancel(tenant, batch)),
  }
}
