import type { ShardJob } from '../../../edge/contract/shard.ts'
import { MissingSliceError, type SliceStores } from '../../../infra/store/slices.ts'
import { type ManifestLine, parseManifestLine } from '../manifest/lines.ts'
import { duplicateFault } from '../planner/plan.ts'
import { expired, faulty, type LineOutcome } from './line.ts'
import { encodeResults, linesOf, type ShardResults } from './runner.ts'
import { failedShard } from './unrun.ts'

/**
 * Results for a shard that nobody has begun when its batch expired: a usable line is `batch_expired`, another says
 * what is wrong with it.
 * @throws StoreUnavailableError
 */
export async function expiredShard(job: ShardJob, stores: SliceStores): Promise<ShardResults> {
  try {
    return encodeResults((await linesOf(job, stores)).map((line) => expiredLine(job, line)))
  } catch (error) {
    if (!(error instanceof MissingSliceError)) throw error
    return failedShard(job, inputGone, stores)
  }
}

/** Undefined for an empty line. */
function expiredLine(job: ShardJob, line: ManifestLine): LineOutcome | undefined {
  const read = parseManifestLine(line, job)
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
