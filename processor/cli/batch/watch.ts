import { type Batch, type BatchStatus, isFinal } from '../../../edge/contract/batch.ts'
import { sleep } from '../../../infra/timing.ts'
import { IncompleteError } from '../errors.ts'
import { quoteForShell } from '../format.ts'
import { newTotals, type ProgressStream, printNote, showProgress, type Totals } from '../progress.ts'
import type { Client } from './client.ts'
import { type ResultFiles, type ResultFlags, resultFiles, saveResults } from './results.ts'
import { type BatchEnvironment, type ServiceFlags, type Session, withService } from './session.ts'
import { batchSummary, faultLines, statusWords } from './text.ts'

/** Between two looks at a batch, ms; its object is refreshed about once a second. */
const pollMs = 1000

interface WatchOptions extends Pick<Session, 'signal'> {
  stderr: ProgressStream
  sleep?(ms: number, signal: AbortSignal): Promise<unknown>
}

/**
 * Shows a batch's progress until it is final, however often the service goes away meanwhile.
 * @param first the batch as it was just now
 * @throws ServiceError; the signal's reason when it aborts
 */
async function watchBatch(client: Client, first: Batch, options: WatchOptions): Promise<Batch> {
  const { stderr, signal, sleep: wait = sleep } = options
  const tally = newTotals()
  let batch = first
  copyCounts(batch, tally)
  const progress = showProgress({ stream: stderr, tally })
  try {
    while (!isFinal(batch.status)) {
      await wait(pollMs, signal)
      signal.throwIfAborted()
      const next = await client.batch(batch.id, { patienceMs: Number.POSITIVE_INFINITY })
      if (next.status !== batch.status && !isFinal(next.status))
        progress.note(`${next.id} is ${statusWords(next.status)}.`)
      batch = next
      copyCounts(batch, tally)
    }
    return batch
  } finally {
    progress.close()
  }
}

function copyCounts({ request_counts: counts, turbine }: Batch, tally: Totals): void {
  tally.total = turbine.counting ? undefined : counts.total
  tally.captioned = counts.completed
  tally.failed = counts.failed
  tally.pruneRatioSum = (turbine.prune_ratio_mean ?? 0) * counts.completed
}

export interface FollowOptions {
  /** Where the results go; without it they stay at the service. */
  files?: ResultFiles
  /** The ends that are a success; default: completed. */
  wanted?: BatchStatus[]
}

/**
 * Watches a batch to its end, sums up, and downloads the results where they are wanted.
 * @throws IncompleteError when the batch ended otherwise than wanted; what the client throws
 */
export async function followBatch(
  { client, signal, onInterrupt }: Session,
  batch: Batch,
  { files, wanted = ['completed'] }: FollowOptions,
  { stderr, sleep }: BatchEnvironment,
): Promise<void> {
  const { id } = batch
  const out = files ? ` --out ${quoteForShell(files.out)}` : ''
  onInterrupt(`Stopped watching; the batch goes on. Watch it again with: npx turbine batch watch ${id}${out}`)
  const last = await watchBatch(client, batch, { stderr, signal, sleep })
  printNote(stderr, batchSummary(last))
  for (const line of faultLines(last)) printNote(stderr, line)
  onInterrupt(`Stopped. Get the results with: npx turbine batch results ${id}${out}`)
  if (files) await saveResults(client, last, { files, stderr })
  else if (last.output_file_id)
    printNote(stderr, `Get the results with: npx turbine batch results ${id} --out captions.jsonl`)
  if (!wanted.includes(last.status)) throw new IncompleteError(otherwise(last))
}

function otherwise({ id, status, completion_window: window }: Batch): string {
  if (status === 'failed') return `${id} failed: none of its input can be used.`
  if (status === 'expired')
    return `${id} expired: it was not done within ${window}. What is missing is in the error file; submit it again.`
  return `${id} was cancelled. What was done until then is kept.`
}

/** `batch watch`. */
export async function runWatch(
  id: string,
  flags: ResultFlags & ServiceFlags,
  environment: BatchEnvironment,
): Promise<void> {
  const files = await resultFiles(flags)
  await withService(flags, environment, async (session) => {
    await followBatch(session, await session.client.batch(id), { files }, environment)
  })
}
