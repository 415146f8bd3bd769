import type { Batch, BatchStatus } from '../../../edge/contract/batch.ts'
import { describeSkipped } from '../../../edge/contract/formats/file-kind.ts'
import { formatCount, formatDuration, formatRate, formatShare } from '../format.ts'

export const asJson = (value: unknown) => `${JSON.stringify(value, null, 2)}\n`

/** `in progress` */
export const statusWords = (status: BatchStatus) => status.replaceAll('_', ' ')

/** Unix seconds as `2026-11-23 18:41:05Z`. */
export const formatStamp = (seconds: number) =>
  new Date(seconds * 1000).toISOString().replace('T', ' ').replace('.000', '')

/** `412 of 1,000 lines`; with `so far` while the input is still being read. */
export function linesDone({ request_counts: { total, completed, failed }, turbine }: Batch): string {
  const lines = `${formatCount(completed + failed)} of ${formatCount(total)} lines`
  return turbine.counting ? `${lines} so far` : lines
}

/** `batch_1 is completed: 995 of 1,000 lines captioned, 5 failed, in 3 min 20 s (5.0 images/s), 23 % of ... merged` */
export function batchSummary(batch: Batch): string {
  const { id, status, request_counts: counts, turbine } = batch
  const parts = [`${formatCount(counts.completed)} of ${formatCount(counts.total)} lines captioned`]
  if (counts.failed > 0) parts.push(`${formatCount(counts.failed)} failed`)
  const seconds = (endedAt(batch) ?? batch.created_at) - batch.created_at
  const rate = seconds > 0 ? ` (${formatRate(counts.completed / seconds)} images/s)` : ''
  parts.push(`in ${formatDuration(seconds * 1000)}${rate}`)
  if (turbine.prune_ratio_mean)
    parts.push(`${formatShare(turbine.prune_ratio_mean)} of the image tokens merged`)
  if (turbine.skipped) parts.push(describeSkipped(turbine.skipped)!)
  if (turbine.repaid) parts.push(`${formatCount(turbine.repaid)} captioned again at full quality`)
  return `${id} is ${statusWords(status)}: ${parts.join(', ')}.`
}

const endedAt = (batch: Batch) =>
  batch.completed_at ?? batch.failed_at ?? batch.expired_at ?? batch.cancelled_at

/** Input errors printed at most. */
const shownFaults = 5

/** Lines about the first errors of the input. */
export function faultLines({ errors }: Batch): string[] {
  const faults = errors?.data ?? []
  const lines = faults
    .slice(0, shownFaults)
    .map(
      ({ line, message, code }) =>
        `${line === null ? '' : `line ${formatCount(line)}: `}${message} (${code})`,
    )
  return faults.length > shownFaults
    ? [...lines, `and ${formatCount(faults.length - shownFaults)} more`]
    : lines
}
