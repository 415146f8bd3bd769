import type { Batch } from '../../../edge/contract/batch.ts'
import type { LineFault } from '../../../edge/contract/manifest-line.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'

/** Final status of a batch. */
export type Ending = 'completed' | 'expired' | 'cancelled' | 'failed'

export type BatchError = NonNullable<Batch['errors']>['data'][number]

/** Counts of a batch's lines. */
export interface Counts {
  /** Lines found so far. */
  lines: number
  tally: ShardTally
  /** True while the input is being read. */
  counting: boolean
}

const seconds = (ms: number) => Math.floor(ms / 1000)

/** The batch with its progress. */
export function withCounts(batch: Batch, { lines, tally, counting }: Counts): Batch {
  const { completed, failed, inputTokens, outputTokens, pruneRatioSum } = tally
  const usage = {
    input_tokens: inputTokens,
    input_tokens_details: { cached_tokens: 0 },
    output_tokens: outputTokens,
    output_tokens_details: { reasoning_tokens: 0 },
    total_tokens: inputTokens + outputTokens,
  }
  return {
    ...batch,
    request_counts: { total: lines, completed, failed },
    usage: completed === 0 ? null : usage,
    turbine: {
      ...batch.turbine,
      counting,
      prune_ratio_mean: completed === 0 ? null : pruneRatioSum / completed,
      ...(tally.repaid ? { repaid: tally.repaid } : {}),
    },
  }
}

/** The batch when its first shard was sent. `now` is unix ms, here and below. */
export const begun = (batch: Batch, now: number): Batch =>
  batch.status === 'validating' ? { ...batch, status: 'in_progress', in_progress_at: seconds(now) } : batch

/** The batch when it was cancelled. `at`: unix seconds. */
export const cancelling = (batch: Batch, at: number): Batch =>
  batch.cancelling_at === null ? { ...batch, status: 'cancelling', cancelling_at: at } : batch

/** The batch when its files are written. */
export function finalizing(batch: Batch, ending: Ending, now: number): Batch {
  const finalizing_at = batch.finalizing_at ?? seconds(now)
  if (ending === 'cancelled') return { ...cancelling(batch, seconds(now)), finalizing_at }
  return ending === 'failed' ? batch : { ...batch, status: 'finalizing', finalizing_at }
}

export interface Conclusion {
  ending: Ending
  /** Null where there is nothing to put into the file. */
  outputFileId: string | null
  errorFileId: string | null
  errors: BatchError[]
}

/** The batch in its final state. */
export function concluded(batch: Batch, conclusion: Conclusion, now: number): Batch {
  const { ending, errors } = conclusion
  return {
    ...batch,
    status: ending,
    [`${ending}_at`]: seconds(now),
    output_file_id: conclusion.outputFileId,
    error_file_id: conclusion.errorFileId,
    errors: errors.length === 0 ? null : { object: 'list', data: errors },
  }
}

/** Converts a fault for the batch's `errors`. `line`: null for errors of the batch as a whole. */
export const batchError = (
  { code, message, param }: Omit<LineFault, 'customId'>,
  line: number | null = null,
): BatchError => ({ code, message, param, line })

/** Share of the completion window kept in reserve, and its limits, ms. */
const reserveShare = 0.05
const leastReserveMs = 5_000
const mostReserveMs = 10 * 60_000

/**
 * Deadline of the last line of a batch, unix ms: before the batch expires, with a reserve for slow and repeated shards
 * and for joining the files.
 */
export function dueAt({ created_at, expires_at }: Pick<Batch, 'created_at' | 'expires_at'>): number {
  const windowMs = 1000 * (expires_at - created_at)
  return 1000 * expires_at - Math.min(Math.max(reserveShare * windowMs, leastReserveMs), mostReserveMs)
}
