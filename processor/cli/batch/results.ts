import { stat } from 'node:fs/promises'
import { type Batch, isFinal } from '../../../edge/contract/batch.ts'
import { captionFiles } from '../caption/files.ts'
import { IncompleteError, UsageError } from '../errors.ts'
import { formatBytes } from '../format.ts'
import { type ProgressStream, printNote, TransferLine } from '../progress.ts'
import type { Client } from './client.ts'
import { downloadFileContent } from './client-download.ts'
import { type BatchEnvironment, type ServiceFlags, withService } from './session.ts'
import { statusWords } from './text.ts'

export interface ResultFlags {
  out?: string
  overwrite?: boolean
}

/** Files for the captions and for the failed lines. */
export interface ResultFiles {
  out: string
  errors: string
}

/** Files of `--out`; undefined without it. @throws UsageError when one exists and `overwrite` is not set */
export async function resultFiles({ out, overwrite }: ResultFlags): Promise<ResultFiles | undefined> {
  if (out === undefined && overwrite) throw new UsageError('--overwrite needs --out.')
  if (out === undefined) return undefined
  const { errors } = await captionFiles({ out })
  if (errors === undefined) throw new UsageError('--out must be a file.')
  if (!overwrite)
    for (const path of [out, errors])
      if (await stat(path).catch(() => undefined))
        throw new UsageError(`${path} already exists. Choose another --out, or --overwrite it.`)
  return { out, errors }
}

/** Downloads the results of a finished batch. @throws ServiceError, UnreachableError */
export async function saveResults(
  client: Client,
  batch: Batch,
  { files, stderr }: { files: ResultFiles; stderr: ProgressStream },
): Promise<void> {
  const save = async (fileId: string, path: string) => {
    const line = new TransferLine(stderr)
    const onBytes = (bytes: number, total?: number) => {
      if (total) line.show({ file: path, bytes, totalBytes: total })
    }
    const bytes = await downloadFileContent(client, { fileId, path, onBytes }).finally(() => line.clear())
    printNote(stderr, `Saved ${path} (${formatBytes(bytes)}).`)
  }
  if (batch.output_file_id) await save(batch.output_file_id, files.out)
  else printNote(stderr, whyNoOutput(batch, files.out))
  if (batch.error_file_id) await save(batch.error_file_id, files.errors)
}

function whyNoOutput({ turbine }: Batch, out: string): string {
  if (turbine.output_uri !== undefined)
    return `The results are at ${turbine.output_uri}; ${out} was not written.`
  return `No line was captioned; ${out} was not written.`
}

/** `batch results`. @throws UsageError, IncompleteError when the batch is still running, errors of the client */
export async function runResults(
  id: string,
  flags: ResultFlags & ServiceFlags,
  environment: BatchEnvironment,
): Promise<void> {
  const files = await resultFiles(flags)
  if (!files) throw new UsageError('--out must be a file.')
  await withService(flags, environment, async ({ client, onInterrupt }) => {
    onInterrupt('Stopped. Run the same command to download the results.')
    const batch = await client.batch(id)
    if (!isFinal(batch.status))
      throw new IncompleteError(
        `${id} is ${statusWords(batch.status)} and has no results yet. Wait for them with ` +
          `"npx turbine batch watch ${id} --out ${files.out}".`,
      )
    await saveResults(client, batch, { files, stderr: environment.stderr })
  })
}
