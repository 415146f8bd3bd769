import { describeSkipped, type Skipped } from '../../../edge/contract/formats/file-kind.ts'
import { jsonLine } from '../../../edge/contract/lines.ts'
import { IncompleteError, InterruptedError } from '../errors.ts'
import { formatCount, formatDuration, formatRate, plural } from '../format.ts'
import { finishedImages, meanPruning, type Terminal, type Totals } from '../progress.ts'
import type { CaptionFiles } from './files.ts'

/** What became of a run. */
export interface CaptionResult {
  tally: Totals
  /** What was left out of folders. */
  skipped: Skipped
  files: CaptionFiles
  /** Failures of earlier runs that were not tried again. Their captions are missing as well. */
  earlierFailures: number
  overwrite: boolean
}

/** `3 images captioned in 1 s (3.0 images/s): captions.jsonl`, and a line of what was left out. */
export function summaryLines(result: CaptionResult, elapsedMs: number): string[] {
  const skipped = describeSkipped(result.skipped)
  return [countsLine(result, elapsedMs), ...(skipped ? [skipped] : [])]
}

function countsLine({ tally, files }: CaptionResult, elapsedMs: number): string {
  if (tally.captioned === 0 && tally.failed === 0 && tally.skipped > 0)
    return `Nothing to do: ${plural(tally.skipped, 'image')} already done.`
  const rate = formatRate((tally.captioned * 1000) / elapsedMs)
  const parts = [
    `${plural(tally.captioned, 'image')} captioned in ${formatDuration(elapsedMs)} (${rate} images/s)`,
  ]
  const written = files.made ?? files.out
  if (written !== undefined) parts[0] += `: ${written}`
  if (tally.skipped > 0) parts.push(`${formatCount(tally.skipped)} already done`)
  if (tally.pruneRatioSum > 0) parts.push(`${meanPruning(tally)} of the image tokens merged`)
  return parts.join('; ')
}

/** `--json`: the counts as one line, on standard error where the captions have standard output. */
export function printSummary(
  { tally, skipped, files, earlierFailures }: CaptionResult,
  elapsedMs: number,
  { stdout, stderr }: Terminal,
): void {
  const line = jsonLine({
    captioned: tally.captioned,
    failed: tally.failed + earlierFailures,
    already_done: Math.max(0, tally.skipped - earlierFailures),
    skipped,
    output: files.made ?? files.out ?? files.pipes.out ?? null,
    errors: files.errors ?? files.pipes.errors ?? null,
    seconds: Number((elapsedMs / 1000).toFixed(1)),
  })
  const isPiped = files.out === undefined && files.pipes.out === undefined
  ;(isPiped ? stderr : stdout).write(`${line}\n`)
}

export function stopped({ files, overwrite }: CaptionResult, signal: NodeJS.Signals): InterruptedError {
  if (files.out === undefined)
    return new InterruptedError('Stopped. A run without a file for --out cannot be resumed.', signal)
  const command = overwrite ? 'the same command without --overwrite' : 'the same command again'
  return new InterruptedError(`Stopped. Run ${command} to resume.`, signal)
}

/** @throws IncompleteError when captions are missing, or there was nothing to caption */
export function checkComplete(
  { tally, files, skipped, earlierFailures }: CaptionResult,
  args: string[],
): void {
  if (finishedImages(tally) === 0) {
    const left = describeSkipped(skipped)
    throw new IncompleteError(`There are no images in ${args.join(' ')}${left ? ` (${left})` : ''}.`)
  }
  const failures = tally.failed + earlierFailures
  if (failures === 0) return
  throw new IncompleteError(
    files.errors === undefined
      ? `${plural(failures, 'image')} failed.`
      : `${plural(failures, 'image')} failed, see ${files.errors}. Retry them with --retry-errors.`,
  )
}
