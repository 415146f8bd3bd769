import { type FileHandle, mkdir, open, realpath, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { writeBody } from '../../../infra/file-body.ts'
import { partFile } from '../replace-file.ts'
import type { Client } from './client.ts'
import { UnreachableError } from './client-connection.ts'

interface DownloadOptions {
  fileId: string
  path: string
  /** Receives the bytes so far; `total` is undefined without a content length. */
  onBytes?(bytes: number, total: number | undefined): void
}

/** Connections in a row that may break without a single new byte. */
const maxEmptyTries = 5

/**
 * Streams a file of the service to disk and resumes after a broken connection. `path` appears only once it is complete.
 * @returns the size, bytes
 * @throws ServiceError, UnreachableError, file system errors
 */
export async function downloadFileContent(
  client: Client,
  { fileId, path, onBytes }: DownloadOptions,
): Promise<number> {
  await mkdir(dirname(path), { recursive: true })
  const target = await realpath(path).catch(() => path)
  const partial = partFile(target)
  const file = await open(partial, 'wx')
  try {
    const bytes = await fetchInto(file, client, { fileId, onBytes })
    await file.sync()
    await file.close()
    await rename(partial, target)
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
  for (let emptyTries = 0; emptyTries < maxEmptyTries; ) {
    const response = await client.fileContent(fileId, bytes)
    const start = response.status === 206 ? bytes : 0
    const length = response.headers.get('content-length')
    const total = length === null ? undefined : start + Number(length)
    const copied = await writeBody(file, response, { start, onBytes: (count) => onBytes?.(count, total) })
    if (!('broken' in copied)) return copied.end
    emptyTries = copied.end > bytes ? 0 : emptyTries + 1
    bytes = copied.end
    cause = new Error('The response was incomplete.', { cause: copied.broken })
  }
  throw new UnreachableError(client.url, cause)
}
