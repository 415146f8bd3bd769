import { type FileHandle, open } from 'node:fs/promises'
import type { File as BatchFile } from '../../../edge/contract/file.ts'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import { UsageError } from '../errors.ts'
import type { Client } from './client.ts'

export interface UploadOptions {
  path: string
  /** File name at the service. */
  filename: string
  bytes: number
  /** A retry with the same key creates no second file. */
  idempotencyKey: string
  /** Receives the bytes sent so far, after each part. */
  onBytes?(bytes: number): void
  /** Size of a part; smaller files take one request. Default 8 MiB: below any platform's body limit, and cheap to resend. */
  partBytes?: number
  /** Parts in flight, each held in memory. */
  concurrency?: number
}

/** Uploads a local file. @throws UsageError when the file shrinks meanwhile; ServiceError, UnreachableError */
export async function uploadFile(client: Client, options: UploadOptions): Promise<BatchFile> {
  const { path, filename, bytes, idempotencyKey, partBytes = 8 * 1024 * 1024 } = options
  const file = await open(path)
  try {
    if (bytes > partBytes) return await uploadInParts(client, file, { ...options, partBytes })
    const data = await readRange(file, { path, start: 0, end: bytes })
    return await client.createFile(data, filename, idempotencyKey)
  } finally {
    await file.close()
  }
}

async function uploadInParts(
  client: Client,
  file: FileHandle,
  options: UploadOptions & { partBytes: number },
): Promise<BatchFile> {
  const { path, filename, bytes, idempotencyKey, onBytes, partBytes, concurrency = 4 } = options
  const upload = await client.createUpload(bytes, filename, idempotencyKey)
  let sent = 0
  const sendPart = async ({ start, end }: { start: number; end: number }) => {
    const data = await readRange(file, { path, start, end })
    const id = await client.addUploadPart(upload.id, data, `${idempotencyKey}-${start}`)
    sent += end - start
    onBytes?.(sent)
    return id
  }
  try {
    const partIds: string[] = []
    for await (const id of mapInOrder(ranges(bytes, partBytes), sendPart, { concurrency })) partIds.push(id)
    const completed = await client.completeUpload(upload.id, partIds)
    if (!completed.file) throw new Error(`The upload ${upload.id} was completed, but it has no file.`)
    return completed.file
  } catch (error) {
    // Without this the upload expires on its own.
    await client.cancelUpload(upload.id).catch(() => {})
    throw error
  }
}

async function* ranges(bytes: number, step: number): AsyncGenerator<{ start: number; end: number }> {
  for (let start = 0; start < bytes; start += step) yield { start, end: Math.min(bytes, start + step) }
}

/** Reads into memory, since a blob that Node opens on a file counts its bytes in 32 bits. */
async function readRange(
  file: FileHandle,
  { path, start, end }: { path: string; start: number; end: number },
): Promise<Blob> {
  const buffer = new Uint8Array(end - start)
  let filled = 0
  while (filled < buffer.length) {
    const { bytesRead } = await file.read(buffer, filled, buffer.length - filled, start + filled)
    if (bytesRead === 0) throw new UsageError(`${path} was truncated while it was read. Submit it again.`)
    filled += bytesRead
  }
  return new Blob([buffer])
}
