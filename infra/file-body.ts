import type { FileHandle } from 'node:fs/promises'

export interface WriteBodyOptions {
  /** Where the first byte goes. */
  start: number
  /** Longest file, bytes: a body that goes on is left there. Default: none. */
  maxEnd?: number
  onBytes?(end: number): void
}

/**
 * Writes the body of a response into a file at `start`, and truncates the file there first.
 * @returns the end of the written bytes; the error of a broken connection, or `tooLong` of a body beyond `maxEnd`.
 * Rejects when the disk is full.
 */
export async function writeBody(
  file: FileHandle,
  { body }: Response,
  { start, maxEnd = Number.POSITIVE_INFINITY, onBytes }: WriteBodyOptions,
): Promise<{ end: number; broken?: unknown; tooLong?: true }> {
  let end = start
  const reader = body?.getReader()
  try {
    await file.truncate(start)
    while (true) {
      if (!reader) return { end }
      const chunk = await reader.read().catch((broken: unknown) => ({ broken }))
      if ('broken' in chunk) return { end, broken: chunk.broken }
      if (chunk.done) return { end }
      if (end + chunk.value.length > maxEnd) return { end, tooLong: true }
      await writeAll(file, chunk.value, end)
      end += chunk.value.length
      onBytes?.(end)
    }
  } finally {
    await reader?.cancel().catch(() => {})
  }
}

async function writeAll(file: FileHandle, bytes: Uint8Array, position: number): Promise<void> {
  for (let written = 0; written < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, written, bytes.length - written, position + written)
    written += bytesWritten
  }
}
