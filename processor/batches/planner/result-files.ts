import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import { putJson } from '../../../infra/store/json.ts'
import type { SliceStores } from '../../../infra/store/slices.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import { type Clock, isOutage, type Outages } from '../../delivery/outages.ts'
import { readShardParts } from '../shard/results.ts'
import { type Joined, joinShards } from './join.ts'
import type { BatchWork, Changes } from './progress.ts'
import { type BatchError, batchError } from './status.ts'

/** For so long a caller's bucket that refuses is tried again; then the files stay with the service, ms. */
const callersBucketMs = 15 * 60_000

export interface JoinFilesOptions extends SliceStores {
  stored: StoredBatch
  /** The shards that count, in their order. */
  shards(): AsyncIterable<number>
  signal: AbortSignal
}

export interface JoinedFiles {
  tally: ShardTally
  /** Ids; null where there is nothing to put into the file. */
  outputFileId: string | null
  errorFileId: string | null
  errors: BatchError[]
}

/** Files whose bytes are written, and that nobody sees yet. */
export interface WrittenFiles extends Joined {
  output: BatchFile
  error: BatchFile
}

/**
 * Writes the files of a batch once: into the store, or into the caller's bucket.
 * @throws StoreUnavailableError, and whatever the caller's bucket answers
 */
export async function writeFiles(
  { stored, shards, signal, store, buckets }: JoinFilesOptions,
  outputUri: string | undefined,
): Promise<WrittenFiles> {
  const output = batchFile('output', stored, { outputUri })
  const error = batchFile('error', stored, { outputUri })
  const targetOf = ({ bucket, key }: BatchFile) => {
    const target = bucket === undefined ? store : buckets?.(bucket)
    if (!target) throw new TypeError(`There is no S3 to write ${outputUri} to.`)
    return { store: target, key }
  }
  const { tenant, batch } = stored
  const joined = await joinShards({
    shards: shards(),
    read: (shard) => readShardParts(store, { tenant, batch: batch.id }, shard),
    output: targetOf(output),
    errors: targetOf(error),
    signal,
  })
  return { ...joined, output, error }
}

export interface FinishFilesOptions extends JoinFilesOptions {
  /** The files, where they were begun before the last shard was done. */
  begun?: Promise<WrittenFiles>
  outages: Outages
  clock: Clock
}

/**
 * Writes the files of a batch through outages and makes them visible. A caller's bucket that goes on refusing does
 * not cost the results: they stay with the service then.
 */
export async function joinFiles(options: FinishFilesOptions): Promise<JoinedFiles> {
  const { stored, store, outages, signal } = options
  const { written, errors } = await finishFiles(options)
  const createdAt = stored.batch.finalizing_at ?? stored.batch.created_at
  const show = async (file: BatchFile, bytes: number) => {
    if (bytes === 0) return null
    await outages.outlast(() => showFile(store, stored, file, { bytes, createdAt }), signal)
    return file.id
  }
  return {
    tally: written.tally,
    outputFileId: await show(written.output, written.outputBytes),
    errorFileId: await show(written.error, written.errorBytes),
    errors,
  }
}

async function finishFiles(
  options: FinishFilesOptions,
): Promise<{ written: WrittenFiles; errors: BatchError[] }> {
  const { begun, stored, outages, clock, signal } = options
  const { output_uri } = stored.batch.turbine
  const early = await begun?.catch(() => undefined)
  if (early) return { written: early, errors: [] }
  const since = clock.now()
  for (let failures = 1; ; failures++) {
    signal.throwIfAborted()
    try {
      return { written: await writeFiles(options, output_uri), errors: [] }
    } catch (error) {
      signal.throwIfAborted()
      const lasting = !isOutage(error) || clock.now() - since > callersBucketMs
      if (output_uri !== undefined && lasting) return keepFiles(options, error)
      if (!isOutage(error)) throw error
      await outages.pause(error as Error, failures, signal)
    }
  }
}

async function keepFiles(
  options: FinishFilesOptions,
  cause: unknown,
): Promise<{ written: WrittenFiles; errors: BatchError[] }> {
  const { outages, signal, stored } = options
  const written = await outages.outlast(() => writeFiles(options, undefined), signal)
  const message = `${stored.batch.turbine.output_uri} could not be written: ${cause instanceof Error ? cause.message : String(cause)} The results are in the batch's files instead.`
  return { written, errors: [batchError('output_uri_unavailable', message, 'turbine.output_uri')] }
}

/** A file of a batch's results and where its bytes lie. */
interface BatchFile {
  /** Of the File object; the same however often the file is written. */
  id: string
  filename: string
  /** The caller's bucket; absent: the service's own store. */
  bucket?: string
  key: string
}

type BatchFileKind = 'output' | 'error'

/**
 * The output or the error file of a batch, in the store, or below the batch's `output_uri`.
 * @example batchFile('output', stored).filename // 'batch_abc_output.jsonl'
 */
function batchFile(
  kind: BatchFileKind,
  { tenant, batch }: StoredBatch,
  { outputUri }: { outputUri?: string } = {},
): BatchFile {
  const id = `file-${batch.id.replace(/^batch_/, '')}-${kind}`
  const filename = `${batch.id}_${kind}.jsonl`
  if (outputUri === undefined) return { id, filename, key: keys.fileContent(tenant, id) }
  const { bucket, key } = parseS3Uri(outputUri)
  return { id, filename, bucket, key: `${key}${filename}` }
}

/** Makes a file whose bytes are written visible to the caller. `createdAt` is in unix seconds. */
async function showFile(
  store: Pick<ObjectStore, 'put'>,
  { tenant, batch, outputExpiresAfter }: StoredBatch,
  { id, filename, bucket, key }: BatchFile,
  { bytes, createdAt }: { bytes: number; createdAt: number },
): Promise<void> {
  const expiry = outputExpiresAfter === undefined ? {} : { expires_at: batch.created_at + outputExpiresAfter }
  const stored: StoredFile = {
    file: {
      id,
      object: 'file',
      bytes,
      created_at: createdAt,
      ...expiry,
      filename,
      purpose: 'batch_output',
      status: 'processed',
    },
    slices: [{ bucket, key, start: 0, end: bytes }],
  }
  await putJson(store, keys.file(tenant, id), stored)
}

export interface EarlyFilesOptions {
  work: Pick<BatchWork, 'complete' | 'isDone'>
  changes: Changes
  /** Whether it is decided how the batch ends. */
  isOver(): boolean
  /** Whether that is kept in the store, so that every planner would write the same files. */
  isKept(): boolean
  /** Writes the files of these shards. */
  write(shards: () => AsyncIterable<number>, signal: AbortSignal): Promise<WrittenFiles>
  /** A place among the few batches that may begin their files early; undefined when all are taken. */
  takePlace(): (() => void) | undefined
}

/**
 * The files of a large batch, begun while its shards are still being done. They become visible only when every shard
 * is in them and the end of the batch is kept; whatever happens until then, nothing of them stays.
 */
export class EarlyFiles {
  readonly #options: EarlyFilesOptions
  #begun: { files: Promise<WrittenFiles>; stop: AbortController } | undefined

  constructor(options: EarlyFilesOptions) {
    this.#options = options
  }

  /** Resolves when they are written; rejects when they have to be written anew. Undefined when none were begun. */
  get files(): Promise<WrittenFiles> | undefined {
    return this.#begun?.files
  }

  begin(signal: AbortSignal): void {
    const { write, takePlace, work } = this.#options
    if (this.#begun || work.complete) return
    const giveBack = takePlace()
    if (!giveBack) return
    const stop = new AbortController()
    const both = AbortSignal.any([signal, stop.signal])
    const files = write(() => this.#shards(both), both)
    // What fails is begun again when all shards are done.
    files.catch(() => {}).finally(giveBack)
    this.#begun = { files, stop }
  }

  /** Gives up what was begun: shards that may be in it have changed, or will. */
  async drop(): Promise<void> {
    const begun = this.#begun
    this.#begun = undefined
    begun?.stop.abort(new Error('The shards change.'))
    await begun?.files.catch(() => {})
  }

  /** Each shard as soon as it is done. */
  async *#shards(signal: AbortSignal): AsyncGenerator<number> {
    const { work, changes, isOver, isKept } = this.#options
    for (let shard = 0; ; shard++) {
      while (!work.isDone(shard) && !work.complete && !isOver()) await changes.next(signal)
      if (!work.isDone(shard)) break
      yield shard
    }
    if (!work.complete) throw new Error('The batch ends early.')
    while (!isKept()) await changes.next(signal)
  }
}
