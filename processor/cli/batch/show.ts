import type { Batch } from '../../../edge/contract/batch.ts'
import { describeSkipped } from '../../../edge/contract/formats/file-kind.ts'
import { formatCount, formatShare, formatTable } from '../format.ts'
import { printNote } from '../progress.ts'
import type { Client } from './client.ts'
import { type BatchEnvironment, type ServiceFlags, withService } from './session.ts'
import { asJson, faultLines, formatStamp, linesDone, statusWords } from './text.ts'
import { followBatch } from './watch.ts'

export type GetFlags = ServiceFlags & { json?: boolean }

/** `batch get` */
export async function runGet(id: string, flags: GetFlags, environment: BatchEnvironment): Promise<void> {
  await withService(flags, environment, async ({ client }) => {
    const batch = await client.batch(id)
    environment.stdout.write(flags.json ? asJson(batch) : describeBatch(batch))
  })
}

function describeBatch(batch: Batch): string {
  const { request_counts: counts, turbine } = batch
  const { prune_ratio_mean: merged } = turbine
  const rows: [string, string | undefined | null][] = [
    ['batch', batch.id],
    ['status', statusWords(batch.status)],
    ['lines', linesDone(batch)],
    ['failed', counts.failed > 0 ? formatCount(counts.failed) : undefined],
    ['left out', turbine.skipped && describeSkipped(turbine.skipped)?.replace('skipped: ', '')],
    ['merged', merged === null ? null : `${formatShare(merged)} of the tokens`],
    ['repaid', turbine.repaid ? `${formatCount(turbine.repaid)} lines, at full quality` : undefined],
    ['model', batch.model],
    ['endpoint', batch.endpoint],
    ['input', batch.input_file_id ?? turbine.input_uri],
    ['output', batch.output_file_id],
    ['errors', batch.error_file_id],
    ['results at', turbine.output_uri],
    ['created', formatStamp(batch.created_at)],
    ['expires', formatStamp(batch.expires_at)],
    ...Object.entries(batch.metadata ?? {}),
    ...faultLines(batch).map((line): [string, string] => ['fault', line]),
  ]
  return formatTable(rows.flatMap(([name, value]) => (value ? [[name, value]] : [])))
}

export type BatchListFlags = GetFlags & { limit: number }

/** `batch list` */
export async function runBatchList(flags: BatchListFlags, environment: BatchEnvironment): Promise<void> {
  const { stdout, stderr } = environment
  await withService(flags, environment, async ({ client }) => {
    const { batches, more } = await newestBatches(client, flags.limit)
    if (flags.json) stdout.write(asJson(batches))
    else if (batches.length > 0) stdout.write(batchTable(batches))
    else printNote(stderr, 'There are no batches. Submit one with: npx turbine batch submit manifest.jsonl')
    if (more) printNote(stderr, `There are more: --limit ${flags.limit * 10}`)
  })
}

const pageLimit = 100

async function newestBatches(client: Client, limit: number): Promise<{ batches: Batch[]; more: boolean }> {
  const batches: Batch[] = []
  let more = true
  while (more && batches.length < limit) {
    const after = batches.at(-1)?.id
    const page = await client.batches({ limit: Math.min(pageLimit, limit - batches.length), after })
    batches.push(...page.data)
    more = page.has_more && page.data.length > 0
  }
  return { batches, more }
}

function batchTable(batches: Batch[]): string {
  const rows = batches.map((batch) => [
    batch.id,
    statusWords(batch.status),
    linesDone(batch),
    formatCount(batch.request_counts.failed),
    formatStamp(batch.created_at),
  ])
  return formatTable([['batch', 'status', 'done', 'failed', 'created'], ...rows], { right: [3] })
}

export type CancelFlags = ServiceFlags & { watch?: boolean }

/** `batch cancel`. With `watch`, a batch that completed first counts as a success. */
export async function runCancel(
  id: string,
  flags: CancelFlags,
  environment: BatchEnvironment,
): Promise<void> {
  await withService(flags, environment, async (session) => {
    const batch = await session.client.cancelBatch(id)
    printNote(environment.stderr, `${id} is ${statusWords(batch.status)}; results so far are kept.`)
    if (flags.watch) await followBatch(session, batch, { wanted: ['cancelled', 'completed'] }, environment)
  })
}
