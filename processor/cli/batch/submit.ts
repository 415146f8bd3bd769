import { randomUUID } from 'node:crypto'
import {
  type Batch,
  type BatchEndpoint,
  type BatchRequest,
  batchEndpoints,
} from '../../../edge/contract/batch.ts'
import { isAddress } from '../caption/manifest.ts'
import { UsageError } from '../errors.ts'
import { formatBytes } from '../format.ts'
import { type ProgressStream, printNote, TransferLine } from '../progress.ts'
import type { Client } from './client.ts'
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

/** `batch submit`. @throws UsageError, InterruptedError, IncompleteError, errors of the client */
export async function runSubmit(
  name: string,
  flags: SubmitFlags,
  environment: BatchEnvironment,
): Promise<void> {
  const { stdin, stdout, stderr } = environment
  if (flags.out !== undefined && !flags.watch) throw new UsageError('--out needs --watch.')
  const files = await resultFiles(flags, isAddress(name) || name === '-' ? [] : [name])
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
  // Reports a wrong URL or key before an upload of gigabytes.
  await client.models()
  const source = await uploadInput(client, input, stderr)
  // The response may be in flight when the signal arrives.
  onInterrupt('Stopped while submitting. Check "npx turbine batch list" for the batch.')
  const request: BatchRequest = {
    ...source,
    endpoint,
    completion_window: flags.window,
    model: flags.model,
    metadata: flags.metadata,
    turbine: { ...source.turbine, output_uri: flags.outputUri, max_prune: flags.maxPrune },
  }
  return client.createBatch(request, randomUUID())
}

/**
 * Chooses the endpoint of a batch: that of its lines, else the option, else captions.
 * @throws UsageError when lines and option differ, or for an unknown endpoint
 */
function endpointFor(input: BatchInput, given: string | undefined): BatchEndpoint {
  const fromLines = 'path' in input ? input.endpoint : undefined
  const known = batchEndpoints.find((endpoint) => endpoint === given)
  if (given !== undefined && !known)
    throw new UsageError(`--endpoint must be ${batchEndpoints.join(' or ')}, got ${given}.`)
  if (fromLines && known && fromLines !== known)
    throw new UsageError(`The lines are for ${fromLines}, but --endpoint is ${known}. Omit --endpoint.`)
  return fromLines ?? known ?? '/v1/captions'
}

type BatchSource = Pick<BatchRequest, 'input_file_id' | 'turbine'>

/** Uploads a local file; an s3:// input stays where it is. */
async function uploadInput(client: Client, input: BatchInput, stderr: ProgressStream): Promise<BatchSource> {
  if ('uri' in input) return { turbine: { input_uri: input.uri } }
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
  return { input_file_id: file.id }
}
