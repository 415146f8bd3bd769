import { maxBodyBytes, promptTokens } from '../../../edge/contract/caption.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { type ManifestLine, readLines } from '../../../edge/contract/lines.ts'
import { emptyTally, encodeShard, type ShardJob, type ShardTally } from '../../../edge/contract/shard.ts'
import type { Tenant } from '../../../edge/contract/tenant.ts'
import { BaseError } from '../../../infra/errors.ts'
import { memoryLimit } from '../../../infra/memory.ts'
import { remember } from '../../../infra/remembered.ts'
import { readSlices, type SliceStores } from '../../../infra/store/slices.ts'
import { timeLimit } from '../../../infra/timing.ts'
import type { Captioner } from '../../pipeline/captioner.ts'
import { probeKey } from '../callers-bucket.ts'
import { assertManifestGranted, readTenant } from '../manifest/grants.ts'
import {
  BatchExpiredError,
  createLineRunner,
  type LineOutcome,
  type LineRun,
  type LineRunnerOptions,
} from './line.ts'
import { priorityOf } from './priority.ts'

export interface ShardRunnerOptions
  extends SliceStores,
    Pick<LineRunnerOptions, 'images' | 'imageLimits' | 'sleep' | 'now' | 'onFetched' | 'onInFlight'> {
  captioner: Captioner
  /** Concurrent fetches of a tenant at one host, over all shards; default: enough for slow sources and fast devices. */
  fetches?: number
  /** Maximum bytes of images in memory; default: `fetches` images of the maximum size, as far as memory allows. */
  imageBytes?: number
  onLine?(outcome: LineOutcome): void
}

/** Results of a shard, ready to be stored. */
export interface ShardResults {
  tally: ShardTally
  /** Encoded by `encodeShard`. */
  object: Uint8Array
  /** Its batch was cancelled: lines that were not begun are not in it. */
  cancelled?: boolean
}

/** Runs a shard from its first line to its last, or until its batch is cancelled; undefined when nothing was done by then. */
export type ShardRunner = (
  job: ShardJob,
  signal: AbortSignal,
  options?: {
    /** Called once, when all lines that are left wait for slow hosts. */
    onWaiting?(): void
  },
) => Promise<ShardResults | undefined>

const leastFetches = 32
/** Maximum share of the process's memory for images of batch lines. */
const imageShare = 1 / 8
/** Images of the largest size for which there is always memory. */
const leastImages = 4

/**
 * Creates a runner of shards: it reads their lines, fetches the images and captions them in the batch lane. Lines of
 * all shards run concurrently, those of urgent batches first; results are in the order of the lines.
 *
 * A run rejects when the shard is to be retried: the store is unavailable, the processor shuts down, the signal aborts.
 * @throws MissingSliceError when the manifest is gone; SliceUnavailableError when its bucket fails
 */
export function createShardRunner(options: ShardRunnerOptions): ShardRunner {
  const { captioner, now, onLine } = options
  const { fetches = Math.max(leastFetches, captioner.concurrency) } = options
  const { imageBytes = imageMemory(fetches) } = options
  const { isCancelled, ...lookUps } = createLookUps(options)
  const runLine = createLineRunner({ ...options, ...lookUps, fetches, imageBytes })

  return async (job, signal, { onWaiting } = {}) => {
    const lines = await linesOf(job, options)
    const left = { lines: lines.length, waiting: 0 }
    const checkLeft = () => {
      if (left.lines === 0 || left.waiting < left.lines) return
      onWaiting?.()
      onWaiting = undefined
    }
    const stopping = new AbortController()
    const expiry = timeLimit(job.expiresAt - now(), () => new BatchExpiredError())
    const cancelling = new AbortController()
    const running = AbortSignal.any([signal, stopping.signal])
    const checkCancelled = async () => {
      if (await isCancelled(job)) cancelling.abort(new BatchCancelledError())
    }
    // Lines that wait for a host begin nothing, and would not notice.
    const watch = setInterval(() => left.waiting > 0 && void checkCancelled().catch(() => {}), cancelCacheMs)
    const lineRun: LineRun = {
      signal: running,
      fetching: AbortSignal.any([running, expiry.signal, cancelling.signal]),
      priority: priorityOf(job.expiresAt, now()),
      onWaiting(change) {
        left.waiting += change
        checkLeft()
      },
      async begin() {
        running.throwIfAborted()
        await checkCancelled()
        cancelling.signal.throwIfAborted()
      },
    }
    const run = async (line: ManifestLine) => {
      try {
        const outcome = await runLine(line, job, lineRun)
        if (outcome) onLine?.(outcome)
        return outcome
      } catch (error) {
        // What is in hand is finished.
        if (error instanceof BatchCancelledError) return undefined
        stopping.abort(error)
        throw error
      } finally {
        left.lines--
        checkLeft()
      }
    }
    try {
      const outcomes = await settled(lines.map(run))
      if (!cancelling.signal.aborted) return encodeResults(outcomes)
      return outcomes.some(Boolean) ? { ...encodeResults(outcomes), cancelled: true } : undefined
    } catch (error) {
      throw signal.aborted ? error : (stopping.signal.reason ?? error)
    } finally {
      clearInterval(watch)
      expiry.clear()
    }
  }
}

const imageMemory = (fetches: number) =>
  maxBodyBytes *
  Math.max(leastImages, Math.min(fetches, Math.floor((imageShare * memoryLimit()) / maxBodyBytes)))

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
      const { turbine } = outcome.captioned
      const { prune_level, prune_ratio, output_tokens } = turbine
      tally.completed++
      if (prune_level > 0) tally.pruned++
      tally.pruneRatioSum += prune_ratio
      tally.inputTokens += promptTokens(turbine)
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
/** Short: who is granted a bucket creates a batch at once. */
const tenantCacheMs = 1_000
const storeCacheMs = 500

/** Look-ups in the store that every line of a shard needs, cached for seconds. */
export function createLookUps({ store, now }: Pick<ShardRunnerOptions, 'store' | 'now'>) {
  const hasMark = remember({
    load: async (mark) => (await store.head(mark)) !== undefined,
    freshMs: () => cancelCacheMs,
    now,
    shared: true,
  })
  const storeWorks = remember({
    load: async (key) => void (await store.head(key)),
    freshMs: () => storeCacheMs,
    now,
    shared: true,
  })
  return {
    /** Rejects when the service's own store is away. */
    assertStore: () => storeWorks(probeKey),
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
