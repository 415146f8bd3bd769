import { randomUUID } from 'node:crypto'
import { type Batch, type BatchEndpoint, batchEndpoints } from '../../../edge/contract/batch.ts'
import { UsageError } from '../errors.ts'
import { formatBytes } from '../format.ts'
import { type ProgressStream, printNote, TransferLine } from '../progress.ts'
import type { Client, NewBatch } from './client.ts'
import { uploadFile } from './client-upload.ts'
import { type BatchInput, withBatchInput } from './input.ts'
import { type ResultFlags, resultFiles } from './results.ts'
import { type BatchEnvironment, type ServiceFlags, type Session, withService } from './session.ts'
import { asJson } from './text.ts'
import { followBatch } from './watch.ts'

export interface SubmitFlags extends ServiceFlags, ResultFlags {
  endpoint?: string
  window: string
  model?: string
  maxPrune?: number
  outputUri?: string
  metadata?: Record<string, string>
  watch?: boolean
  json?: boolean
}

/** `batch submit`. @throws UsageError, InterruptedError, IncompleteError, what the client throws */
export async function runSubmit(
  name: string,
  flags: SubmitFlags,
  environment: BatchEnvironment,
): Promise<void> {
  const { stdin, stdout, stderr } = environment
  if (flags.out !== undefined && !flags.watch)
    throw new UsageError('--out waits for the results. Give --watch as well.')
  const files = await resultFiles(flags)
  await withService(flags, environment, async (session) => {
    session.onInterrupt('Stopped. Nothing was submitted.')
    const batch = await withBatchInput(name, { stdin, signal: session.signal }, (input) =>
      submit(input, flags, { session, stderr }),
    )
    stdout.write(flags.json ? asJson(batch) : `${batch.id}\n`)
    if (flags.watch) await followBatch(session, batch, { files }, environment)
    else printNote(stderr, `Watch it with: npx turbine batch watch ${batch.id}`)
  })
}

async function submit(
  input: BatchInput,
  flags: SubmitFlags,
  { session, stderr }: { session: Session; stderr: ProgressStream },
): Promise<Batch> {
  const { client, onInterrupt } = session
  const endpoint = endpointFor(input, flags.endpoint)
  // A wrong address or key shows here, not after an upload of gigabytes.
  await client.models()
  const source = await bringInput(client, input, stderr)
  // The answer may be on its way when the signal comes.
  onInterrupt('Stopped while submitting. "npx turbine batch list" shows whether the batch was made.')
  return client.createBatch(newBatch(source, endpoint, flags), randomUUID())
}

/**
 * The endpoint of a batch: what its lines say, else what was asked for, else captions.
 * @throws UsageError when lines and option differ, or there is no such endpoint
 */
function endpointFor(input: BatchInput, asked: string | undefined): BatchEndpoint {
  const said = 'path' in input ? input.endpoint : undefined
  const known = batchEndpoints.find((endpoint) => endpoint === asked)
  if (asked !== undefined && !known)
    throw new UsageError(`--endpoint is ${asked}. It can be ${batchEndpoints.join(' or ')}.`)
  if (said && known && said !== known)
    throw new UsageError(`The lines ask for ${said}, but --endpoint is ${known}. Leave it out.`)
  return said ?? known ?? '/v1/captions'
}

interface BatchSource {
  fileId?: string
  uri?: string
}

/** A local file is uploaded; what lies in a bucket stays where it is. */
async function bringInput(client: Client, input: BatchInput, stderr: ProgressStream): Promise<BatchSource> {
  if ('uri' in input) return { uri: input.uri }
  const { path, filename, bytes: totalBytes } = input
  const line = new TransferLine(stderr)
  const show = (bytes: number) => line.show({ file: `Uploading ${filename}`, bytes, totalBytes })
  if (stderr.isTTY) show(0)
  const file = await uploadFile(client, {
    path,
    filename,
    bytes: totalBytes,
    idempotencyKey: randomUUID(),
    onBytes: show,
  }).finally(() => line.clear())
  printNote(stderr, `Uploaded ${filename} (${formatBytes(totalBytes)}) as ${file.id}.`)
  return { fileId: file.id }
}

/** Fields that are undefined are not sent. */
const newBatch = ({ fileId, uri }: BatchSource, endpoint: BatchEndpoint, flags: SubmitFlags): NewBatch => ({
  input_file_id: fileId,
  endpoint,
  completion_window: flags.window,
  model: flags.model,
  metadata: flags.metadata,
  turbine: { input_uri: uri, output_uri: flags.outputUri, max_prune: flags.maxPrune },
})
