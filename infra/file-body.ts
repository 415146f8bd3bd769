import type { FileHandle } from 'node:fs/promises'

/**
 * Writes the body of a response into a file, from the byte `start` on; what stood behind it goes.
 * @returns where the bytes in the file end, and what the connection broke with if it did. A disk that is full rejects.
 */
export async function writeBody(
  file: FileHandle,
  { body }: Response,
  { start, onBytes }: { start: number; onBytes?(end: number): void },
): Promise<{ end: number; broken?: unknown }> {
  await file.truncate(start)
  let end = start
  if (!body) return { end }
  const reader = body.getReader()
  try {
    while (true) {
      const chunk = await reader.read().catch((broken: unknown) => ({ broken }))
      if ('broken' in chunk) return { end, broken: chunk.broken }
      if (chunk.done) return { end }
      await writeAll(file, chunk.value, end)
      end += chunk.value.length
      onBytes?.(end)
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
