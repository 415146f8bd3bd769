import type { StoredBatch } from '../../../edge/contract/batch.ts'
import type { StoredFile } from '../../../edge/contract/file.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'

/** A file of a batch's results and where its bytes lie. */
export interface BatchFile {
  /** Of the File object; the same however often the file is written. */
  id: string
  filename: string
  /** The caller's bucket; absent: the service's own store. */
  bucket?: string
  key: string
}

export type BatchFileKind = 'output' | 'error'

/**
 * The output or the error file of a batch, in the store, or below the batch's `output_uri`.
 * @example batchFile('output', stored).filename // 'batch_abc_output.jsonl'
 */
export function batchFile(
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
export async function showFile(
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
  await store.put(keys.file(tenant, id), JSON.stringify(stored), { contentType: 'application/json' })
}
