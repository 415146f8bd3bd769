import { joinBytes } from '../join-bytes.ts'
import { unlessAborted } from '../timing.ts'
import { imageFaults } from './faults.ts'

export interface ReadBodyOptions {
  maxBytes: number
  /** Bytes as announced; undefined if they are not known before. */
  size?: number
  /** Waits for memory. */
  room?(bytes: number): Promise<void>
  signal: AbortSignal
}

/**
 * The whole body of an image, cancelled on every other path.
 * @throws ImageError `image_url_too_large` by the announced size, and as soon as more than `maxBytes` were read; the
 * signal's reason, also while no bytes come
 */
export async function readBody(
  body: ReadableStream<Uint8Array>,
  { maxBytes, size = maxBytes, room, signal }: ReadBodyOptions,
): Promise<Uint8Array> {
  const reader = body.getReader()
  try {
    signal.throwIfAborted()
    if (size > maxBytes) throw imageFaults.tooLarge(maxBytes)
    await room?.(size)
    return await readChunks(reader, maxBytes, signal)
  } catch (error) {
    reader.cancel(error).catch(() => {})
    throw error
  }
}

async function readChunks(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  maxBytes: number,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for (;;) {
    const { done, value } = await unlessAborted(reader.read(), signal)
    if (done) break
    size += value.byteLength
    if (size > maxBytes) throw imageFaults.tooLarge(maxBytes)
    chunks.push(value)
  }
  return joinBytes(chunks, size)
}
