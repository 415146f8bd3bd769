import { randomUUID } from 'node:crypto'
import { type FileHandle, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Client } from './client.ts'
import { UnreachableError } from './client-connection.ts'

export interface DownloadOptions {
  fileId: string
  path: string
  /** Told how many bytes are here; `total` is undefined where the service does not say. */
  onBytes?(bytes: number, total: number | undefined): void
}

/** Connections in a row that may break without bringing a byte. */
const barrenTries = 5

/**
 * Streams a file of the service to disk. It stands at `path` only when it is whole; a connection that breaks is
 * taken up where it broke.
 * @returns the file's bytes
 * @throws ServiceError, UnreachableError, and what the file system throws
 */
export async function downloadFile(
  client: Client,
  { fileId, path, onBytes }: DownloadOptions,
): Promise<number> {
  await mkdir(dirname(path), { recursive: true })
  const partial = `${path}.${randomUUID().slice(0, 8)}.part`
  const file = await open(partial, 'wx')
  try {
    const bytes = await fetchInto(file, client, { fileId, onBytes })
    await file.sync()
    await file.close()
    await rename(partial, path)
    return bytes
  } catch (error) {
    await file.close()
    await rm(partial, { force: true })
    throw error
  }
}

async function fetchInto(
  file: FileHandle,
  client: Client,
  { fileId, onBytes }: Omit<DownloadOptions, 'path'>,
): Promise<number> {
  let bytes = 0
  let cause: unknown
  for (let barren = 0; barren < barrenTries; ) {
    const response = await client.fileContent(fileId, bytes)
    const start = response.status === 206 ? bytes : 0
    const length = response.headers.get('content-length')
    const total = length === null ? undefined : start + Number(length)
    const copied = await copyBody(response, file, { start, onBytes: (count) => onBytes?.(count, total) })
    if (!copied.broken) return copied.end
    barren = copied.end > bytes ? 0 : barren + 1
    bytes = copied.end
    cause = copied.broken
  }
  throw new UnreachableError(client.url, cause)
}

/** Writes the body to the file from `start` on. A connection that breaks is no error here, a full disk is. */
async function copyBody(
  { body }: Response,
  file: FileHandle,
  { start, onBytes }: { start: number; onBytes(bytes: number): void },
): Promise<{ end: number; broken?: Error }> {
  await file.truncate(start)
  let end = start
  if (!body) return { end }
  const reader = body.getReader()
  try {
    while (true) {
      const chunk = await reader
        .read()
        .catch((cause) => ({ broken: new Error('The body broke off.', { cause }) }))
      if ('broken' in chunk) return { end, broken: chunk.broken }
      if (chunk.done) return { end }
      await writeAll(file, chunk.value, end)
      end += chunk.value.length
      onBytes(end)
    }
  } finally {
    await reader.cancel().catch(() => {})
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}
