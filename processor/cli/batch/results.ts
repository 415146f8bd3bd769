import { createReadStream, createWriteStream } from 'node:fs'
import { mkdtemp, rm, stat } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { type Batch, isFinal } from '../../../edge/contract/batch.ts'
import { readLines } from '../../../edge/contract/lines.ts'
import { type CaptionFiles, captionFiles } from '../caption/files.ts'
import { ForeignLineError, type JsonlKind, scanJsonl } from '../caption/jsonl-scan.ts'
import { IncompleteError, UsageError } from '../errors.ts'
import { formatBytes, plural, quoteForShell } from '../format.ts'
import { printNote, TransferLine } from '../progress.ts'
import { assertNotInput } from '../same-file.ts'
import type { Client } from './client.ts'
import { downloadFileContent } from './client-download.ts'
import { type BatchEnvironment, type ServiceFlags, withService } from './session.ts'
import { statusWords } from './text.ts'

export interface ResultFlags {
  out?: string
  overwrite?: boolean
}

/** Where the captions and the failed lines go. */
export interface ResultFiles extends CaptionFiles {
  /** As it was given, for messages. */
  name: string
}

/**
 * Files of `--out`; undefined without it.
 * @param inputs files that the command reads
 * @throws UsageError when one is an input, exists and `overwrite` is not set, or is no result of a batch
 */
export async function resultFiles(
  { out: name, overwrite }: ResultFlags,
  inputs: readonly string[] = [],
): Promise<ResultFiles | undefined> {
  if (name === undefined && overwrite) throw new UsageError('--overwrite needs --out.')
  if (name === undefined) return undefined
  const { out, errors, pipes } = await captionFiles({ out: name })
  const paths = [out, errors].filter((path) => path !== undefined)
  await assertNotInput(
    paths.map((path) => ({ option: '--out', path })),
    inputs,
  )
  for (const path of paths) {
    if (!(await stat(path).catch(() => undefined))) continue
    if (!overwrite) throw new UsageError(`${path} already exists. Choose another --out.`)
    await scanJsonl(path, resultLines)
  }
  return { name, out, errors, pipes }
}

/** What `--overwrite` replaces. */
const resultLines: JsonlKind = {
  starts: ['{"id":"batch_req_'],
  visit(value) {
    if (!('custom_id' in value && 'response' in value && 'error' in value))
      throw new ForeignLineError('is no result of a batch')
  },
}

/** Downloads the results of a finished batch. @throws ServiceError, UnreachableError */
export async function saveResults(
  client: Client,
  batch: Batch,
  { files, stdout, stderr }: { files: ResultFiles } & Pick<BatchEnvironment, 'stdout' | 'stderr'>,
): Promise<void> {
  const save = async (fileId: string, path: string) => {
    const line = new TransferLine(stderr)
    const onBytes = (bytes: number, total?: number) => {
      if (total) line.show({ file: path, bytes, totalBytes: total })
    }
    const bytes = await downloadFileContent(client, { fileId, path, onBytes }).finally(() => line.clear())
    printNote(stderr, `Saved ${path} (${formatBytes(bytes)}).`)
  }
  const { output_file_id: output, error_file_id: errors } = batch
  const { out = files.name } = files
  if (!output) printNote(stderr, whyNoOutput(batch, out))
  else if (files.out !== undefined) await save(output, files.out)
  else await passOn(client, output, { pipe: files.pipes.out, stdout })
  if (errors && files.errors !== undefined) await save(errors, files.errors)
  else if (errors)
    printNote(
      stderr,
      `${plural(batch.request_counts.failed, 'line')} failed: name a file with --out to get them.`,
    )
}

function whyNoOutput({ turbine }: Batch, out: string): string {
  if (turbine.output_uri !== undefined)
    return `The results are at ${turbine.output_uri}; ${out} was not written.`
  return `No line was captioned; ${out} was not written.`
}

/** Downloads a file, which can be resumed, and passes it on to a stream, which cannot. */
async function passOn(
  client: Client,
  fileId: string,
  { pipe, stdout }: { pipe: string | undefined } & Pick<BatchEnvironment, 'stdout'>,
): Promise<void> {
  const folder = await mkdtemp(join(tmpdir(), 'turbine-results-'))
  try {
    const path = join(folder, 'output.jsonl')
    await downloadFileContent(client, { fileId, path })
    if (pipe !== undefined) await pipeline(createReadStream(path), createWriteStream(pipe))
    else
      for await (const lines of readLines(createReadStream(path), { fatal: false }))
        stdout.write(lines.map(({ text = '' }) => `${text}\n`).join(''))
  } finally {
    await rm(folder, { recursive: true })
  }
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
          `"npx turbine batch watch ${id} --out ${quoteForShell(files.name)}".`,
      )
    await saveResults(client, batch, { files, ...environment })
  })
}
