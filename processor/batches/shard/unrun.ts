import type { ShardJob } from '../../../edge/contract/shard.ts'
import { MissingSliceError, type SliceStores } from '../../../infra/store/slices.ts'
import { type ManifestLine, parseManifestLine } from '../manifest/lines.ts'
import type { LineOutcome } from './line.ts'
import { errorLine, resultIds } from './result-lines.ts'
import { encodeResults, linesOf, type ShardResults } from './runner.ts'

/** Why all lines of a shard failed. */
export interface ShardFault {
  code: string
  message: string
}

/**
 * Results for a shard that cannot be run: each of its lines is an error line. Where the lines themselves are gone,
 * there are as many error lines, without a `custom_id`.
 * @throws StoreUnavailableError
 */
export async function failedShard(
  job: ShardJob,
  fault: ShardFault,
  stores: SliceStores,
): Promise<ShardResults> {
  const lines = await linesOf(job, stores).catch((error: unknown) => {
    if (error instanceof MissingSliceError) return undefined
    throw error
  })
  return encodeResults(
    lines === undefined
      ? Array.from({ length: job.lines }, (_, i) => failedLine(job, fault, { number: job.firstLine + i }))
      : lines.map((line) => failedLine(job, fault, line)),
  )
}

/** Undefined for an empty line. A line without a text is one that nobody knows more of. */
function failedLine(
  job: ShardJob,
  { code, message }: ShardFault,
  line: ManifestLine | { number: number },
): LineOutcome | undefined {
  const read = 'text' in line ? parseManifestLine(line, job) : { fault: { customId: null } }
  if (read === undefined) return undefined
  const { customId } = 'ask' in read ? read.ask : read.fault
  const { id } = resultIds(job.batch, line.number)
  return {
    text: errorLine({ id, customId, error: { code, message, line: line.number } }),
    code,
    dropped: false,
  }
}
