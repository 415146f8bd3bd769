import { type Batch, type BatchStatus, isFinal } from '../../../edge/contract/batch.ts'
import { sleep } from '../../../infra/timing.ts'
import { IncompleteError } from '../errors.ts'
import { quoteForShell } from '../format.ts'
import { newTotals, printNote, showProgress, type Totals } from '../progress.ts'
import { type ResultFiles, type ResultFlags, resultFiles, saveResults } from './results.ts'
import { type BatchEnvironment, type ServiceFlags, type Session, withService } from './session.ts'
import { batchSummary, faultLines, statusWords } from './text.ts'

/** Poll interval, ms; the batch object is refreshed about once a second. */
const pollMs = 1000

/** Shows a batch's progress until it is final. Outages of the service do not end it. @throws ServiceError */
async function watchBatch(
  { client, signal }: Session,
  first: Batch,
  { stderr, sleep: wait = sleep }: BatchEnvironment,
): Promise<Batch> {
  const tally = newTotals()
  let batch = first
  copyCounts(batch, tally)
  const progress = showProgress({ stream: stderr, tally })
  try {
    while (!isFinal(batch.status)) {
      await wait(pollMs, signal)
      signal.throwIfAborted()
      const next = await client.batch(batch.id, { maxWaitMs: Number.POSITIVE_INFINITY })
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
  /** Files for the results; without them nothing is downloaded. */
  files?: ResultFiles
  /** Final states that are a success; default: completed. */
  wanted?: BatchStatus[]
}

/**
 * Watches a batch to its end, prints a summary and downloads the results.
 * @throws IncompleteError when the batch ended in another state than `wanted`; errors of the client
 */
export async function followBatch(
  session: Session,
  batch: Batch,
  { files, wanted = ['completed'] }: FollowOptions,
  environment: BatchEnvironment,
): Promise<void> {
  const { id } = batch
  const { client, onInterrupt } = session
  const { stdout, stderr } = environment
  const out = files ? ` --out ${quoteForShell(files.name)}` : ''
  onInterrupt(
    `Stopped watching; the batch is still running. Resume with: npx turbine batch watch ${id}${out}`,
  )
  const last = await watchBatch(session, batch, environment)
  printNote(stderr, batchSummary(last))
  for (const line of faultLines(last)) printNote(stderr, line)
  onInterrupt(`Stopped. Get the results with: npx turbine batch results ${id}${out}`)
  if (files) await saveResults(client, last, { files, stdout, stderr })
  else if (last.output_file_id)
    printNote(stderr, `Get the results with: npx turbine batch results ${id} --out captions.jsonl`)
  if (!wanted.includes(last.status)) throw new IncompleteError(failureOf(last))
}

function failureOf({ id, status, completion_window: window }: Batch): string {
  if (status === 'failed') return `${id} failed: its input is invalid.`
  if (status === 'expired')
    return `${id} expired after ${window}. Unfinished lines are in the error file; resubmit them.`
  return `${id} was cancelled. Results so far are kept.`
}

/** `batch watch` */
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
