import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import { putJson } from '../../../infra/store/json.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { atCallersBucket } from '../callers-bucket.ts'
import { assertStillGranted } from '../manifest/source.ts'
import { readShardParts } from '../shard/results.ts'
import type { BatchContext } from './context.ts'
import { type Joined, joinShards } from './join.ts'
import type { BatchRef } from './lease.ts'
import type { BatchWork } from './progress.ts'
import { type BatchError, batchError, type Conclusion } from './status.ts'

/** Time for which a failing bucket of a caller is retried, ms; then the files stay in the service's store. */
const callersBucketMs = 15 * 60_000

export interface JoinedFiles extends Omit<Conclusion, 'ending'> {
  tally: ShardTally
}

/** Written files that are not visible yet. */
export interface WrittenFiles extends Joined {
  output: BatchFile
  error: BatchFile
}

/**
 * Writes the files of a batch and makes them visible, through outages. When a caller's bucket keeps failing, the
 * results stay in the service's store.
 * @param early files that were started before the last shard was done
 */
export async function joinFiles(context: BatchContext, early?: Promise<WrittenFiles>): Promise<JoinedFiles> {
  const { state, outages, signal } = context
  const written = await early?.catch(() => undefined)
  const { files, errors } = written ? { files: written, errors: [] } : await writeAllFiles(context)
  const show = async (file: BatchFile, bytes: number) => {
    if (bytes === 0) return null
    await outages.outlast(() => showFile(context.store, state.stored, file, bytes), signal)
    return file.id
  }
  return {
    tally: files.tally,
    outputFileId: await show(files.output, files.outputBytes),
    errorFileId: await show(files.error, files.errorBytes),
    errors,
  }
}

/** Writes the files of all shards that are done. */
async function writeAllFiles(context: BatchContext): Promise<{ files: WrittenFiles; errors: BatchError[] }> {
  const { state, outages, clock, signal } = context
  // A batch that failed before its first shard writes nothing.
  const output_uri = state.work.done.end > 0 ? state.batch.turbine.output_uri : undefined
  const write = (uri: string | undefined) => writeFiles(context, doneShards(state.work), uri)
  const writeOwn = () => outages.outlast(() => write(undefined), signal)
  if (output_uri === undefined) return { files: await writeOwn(), errors: [] }
  try {
    const giveUpAt = clock.now() + callersBucketMs
    return { files: await atCallersBucket(() => write(output_uri), { ...context, giveUpAt }), errors: [] }
  } catch (error) {
    signal.throwIfAborted()
    const files = await writeOwn()
    const cause = error instanceof Error ? error.message : String(error)
    const message = `${output_uri} could not be written: ${cause} The results are in the batch's files instead.`
    const fault = { code: 'output_uri_unavailable', message, param: 'turbine.output_uri' }
    return { files, errors: [batchError(fault)] }
  }
}

async function* doneShards({ done }: BatchWork): AsyncGenerator<number> {
  for (let shard = 0; shard < done.end; shard++) if (done.has(shard)) yield shard
}

/**
 * Writes the files of these shards once, into the store or the caller's bucket.
 * @throws StoreUnavailableError, BatchInputError `s3_not_granted`, and any error of the caller's bucket
 */
async function writeFiles(
  context: BatchContext,
  shards: AsyncIterable<number>,
  outputUri: string | undefined,
): Promise<WrittenFiles> {
  const { state, store, buckets, signal } = context
  if (outputUri !== undefined) await assertStillGranted(state.stored, 'write', context)
  const output = batchFile('output', state.ref, outputUri)
  const error = batchFile('error', state.ref, outputUri)
  const targetOf = ({ bucket, key }: BatchFile) => {
    const target = bucket === undefined ? store : buckets?.(bucket)
    if (!target) throw new TypeError(`${outputUri} cannot be written: this service has no S3.`)
    return { store: target, key }
  }
  const joined = await joinShards({
    shards,
    read: (shard) => readShardParts(store, state.ref, shard),
    output: targetOf(output),
    errors: targetOf(error),
    signal,
  })
  return { ...joined, output, error }
}

/** Result file of a batch, and its location. */
interface BatchFile {
  /** Of the File object; deterministic. */
  id: string
  filename: string
  /** The caller's bucket; absent: the service's own store. */
  bucket?: string
  key: string
}

/** The output or the error file of a batch, in the store, or below the batch's `output_uri`. */
function batchFile(kind: 'output' | 'error', { tenant, batch }: BatchRef, outputUri?: string): BatchFile {
  const id = `file-${batch.replace(/^batch_/, '')}-${kind}`
  const filename = `${batch}_${kind}.jsonl`
  if (outputUri === undefined) return { id, filename, key: keys.fileContent(tenant, id) }
  const { bucket, key } = parseS3Uri(outputUri)
  return { id, filename, bucket, key: `${key}${filename}` }
}

/** Makes a written file visible to the caller. */
async function showFile(
  store: Pick<ObjectStore, 'put'>,
  { tenant, batch, outputExpiresAfter }: StoredBatch,
  { id, filename, bucket, key }: BatchFile,
  bytes: number,
): Promise<void> {
  const expiry = outputExpiresAfter === undefined ? {} : { expires_at: batch.created_at + outputExpiresAfter }
  const stored: StoredFile = {
    file: {
      id,
      object: 'file',
      bytes,
      created_at: batch.finalizing_at ?? batch.created_at,
      ...expiry,
      filename,
      purpose: 'batch_output',
      status: 'processed',
    },
    slices: [{ bucket, key, start: 0, end: bytes }],
  }
  await putJson(store, keys.file(tenant, id), stored)
}

/**
 * Files of a large batch, started before its last shard is done. They become visible only when every shard is in them
 * and the final state is stored; until then a failure leaves nothing behind.
 */
export class EarlyFiles {
  readonly #context: BatchContext
  #begun: { files: Promise<WrittenFiles>; stop: AbortController } | undefined

  constructor(context: BatchContext) {
    this.#context = context
  }

  /** Resolves when they are written; rejects when they have to be rewritten. Undefined before the start. */
  get files(): Promise<WrittenFiles> | undefined {
    return this.#begun?.files
  }

  /** Starts, unless the limit of batches is reached. */
  begin(): void {
    const { state, earlyFilesLimit: limit } = this.#context
    const taken = limit.activeCount + limit.pendingCount
    if (this.#begun || state.work.complete || taken >= limit.concurrency) return
    const stop = new AbortController()
    const signal = AbortSignal.any([this.#context.signal, stop.signal])
    const { output_uri } = state.batch.turbine
    const files = limit(() => writeFiles({ ...this.#context, signal }, this.#shards(signal), output_uri))
    // After a failure they are rewritten when all shards are done.
    files.catch(() => {})
    this.#begun = { files, stop }
  }

  /** Discards them: shards that may be in them have changed, or will. */
  async drop(): Promise<void> {
    const begun = this.#begun
    this.#begun = undefined
    begun?.stop.abort(new Error('The shards have changed.'))
    await begun?.files.catch(() => {})
  }

  /** Each shard as soon as it is done. */
  async *#shards(signal: AbortSignal): AsyncGenerator<number> {
    const { state, record } = this.#context
    const { work, changes } = state
    for (let shard = 0; ; shard++) {
      while (!work.done.has(shard) && !work.complete && !state.finalState) await changes.next(signal)
      if (!work.done.has(shard)) break
      yield shard
    }
    if (!work.complete) throw new Error('The batch ends early.')
    // A planner that has lost the batch must not finish the files: it cannot save its final state.
    while (!record.finalStateSaved) await changes.next(signal)
  }
}
