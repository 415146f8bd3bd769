import type { ManifestLine } from '../../../edge/contract/lines.ts'
import { parseBatchLine } from '../../../edge/contract/manifest-line.ts'
import type { ShardJob, ShardTally } from '../../../edge/contract/shard.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { retry } from '../../../infra/retry.ts'
import { MissingSliceError, type SliceStores, SliceUnavailableError } from '../../../infra/store/slices.ts'
import { probeKey } from '../callers-bucket.ts'
import { duplicateFault } from '../planner/plan.ts'
import { expired, faulty, type LineOutcome } from './line.ts'
import { writeShard } from './results.ts'
import { encodeResults, linesOf, type ShardResults } from './runner.ts'

/** Error of all lines of a shard. */
export interface ShardFault {
  code: string
  message: string
}

/**
 * Creates results for a shard that cannot be run, with an error line for each line. Lines that are gone have no
 * `custom_id`.
 * @throws StoreUnavailableError
 */
export async function failedShard(
  job: ShardJob,
  fault: ShardFault,
  stores: SliceStores,
): Promise<ShardResults> {
  const lines = await linesOrGone(job, stores)
  return encodeResults(
    lines === undefined ? goneLines(job, fault) : lines.map((line) => failedLine(job, fault, line)),
  )
}

const goneLines = (job: ShardJob, fault: ShardFault) =>
  Array.from({ length: job.lines }, (_, i) => failedLine(job, fault, { number: job.firstLine + i }))

/** Tries to read lines that only their errors need. */
const readTries = 4

/**
 * Undefined when the lines are gone, and when another bucket does not give them out although the service's own store
 * works.
 */
async function linesOrGone(job: ShardJob, stores: SliceStores): Promise<ManifestLine[] | undefined> {
  try {
    const retriable = (error: unknown) => error instanceof SliceUnavailableError
    return await retry(() => linesOf(job, stores), { tries: readTries, retriable })
  } catch (error) {
    if (error instanceof MissingSliceError) return undefined
    if (!(error instanceof SliceUnavailableError)) throw error
    await stores.store.head(probeKey)
    return undefined
  }
}

/** Undefined for an empty line. A line without text is gone. */
function failedLine(
  job: ShardJob,
  { code, message }: ShardFault,
  line: ManifestLine | { number: number },
): LineOutcome | undefined {
  const read = 'text' in line ? parseBatchLine(line, job) : { fault: { customId: null } }
  if (read === undefined) return undefined
  const { customId } = 'ask' in read ? read.ask : read.fault
  return faulty(job, line, { customId, code, message })
}

/**
 * Creates results for a shard that was not started when its batch expired: `batch_expired` for usable lines, their
 * fault for others.
 * @throws StoreUnavailableError
 */
async function expiredShard(job: ShardJob, stores: SliceStores): Promise<ShardResults> {
  const lines = await linesOrGone(job, stores)
  if (lines) return encodeResults(lines.map((line) => expiredLine(job, line)))
  return encodeResults(goneLines(job, inputGone))
}

/** Undefined for an empty line. */
function expiredLine(job: ShardJob, line: ManifestLine): LineOutcome | undefined {
  const read = parseBatchLine(line, job)
  if (read === undefined) return undefined
  if ('fault' in read) return faulty(job, line, read.fault)
  const { customId } = read.ask
  if (job.duplicates.includes(line.number)) return faulty(job, line, duplicateFault(customId))
  return expired(job, line.number, customId)
}

const inputGone = {
  code: 'batch_expired',
  message: 'The batch expired before this line was run, and its input was deleted.',
}

const shardsAtOnce = 4

/**
 * Writes the results of shards that did not run before their batch expired, and yields the tallies of the stored
 * results.
 * @throws StoreUnavailableError
 */
export async function* expireShards(
  jobs: Iterable<ShardJob>,
  { signal, ...stores }: SliceStores & { signal: AbortSignal },
): AsyncGenerator<{ shard: number; tally: ShardTally }> {
  const expire = async (job: ShardJob) => {
    const tally = await writeShard(stores.store, job, await expiredShard(job, stores))
    return { shard: job.shard, tally }
  }
  const options = { concurrency: shardsAtOnce, window: shardsAtOnce, signal }
  yield* mapInOrder(jobs, expire, options)
  signal.throwIfAborted()
}
