import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { ShardTally } from '../../../edge/contract/shard.ts'
import type { SliceStores } from '../../../infra/store/slices.ts'
import { type Clock, isOutage, type Outages } from '../../delivery/outages.ts'
import { readShardParts } from '../shard/results.ts'
import { type BatchFile, batchFile, showFile } from './batch-files.ts'
import { type Joined, joinShards } from './join.ts'
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
