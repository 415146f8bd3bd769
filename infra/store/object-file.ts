import { type FileHandle, open } from 'node:fs/promises'
import { privateFile } from '../durable.ts'
import { type ByteRange, resolveRange } from './range.ts'
import { StoreUnavailableError } from './store.ts'

/**
 * Trailer of an object's file, behind its bytes, so that one rename puts all of it in place: JSON, its length (4 bytes,
 * big-endian) and a mark of 4 bytes.
 */
export interface Trailer {
  etag: string
  contentType: string
}

export interface ObjectFileInfo extends Trailer {
  /** Bytes without the trailer. */
  size: number
  /** Unix ms. */
  lastModified: number
}

const mark = 'TRBN'
/** Large enough to read a trailer at once. */
const trailerGuessBytes = 512
/** Objects up to about this size are read at once, with their trailer. */
const smallBytes = 64 * 1024
const chunkBytes = 256 * 1024

export type ObjectBody = Uint8Array | string | ReadableStream<Uint8Array>

/** Writes a new file and syncs it to the disk. Streams are not buffered. */
export async function writeObjectFile(path: string, body: ObjectBody, trailer: Trailer): Promise<void> {
  const file = await open(path, 'wx', privateFile)
  try {
    await (body instanceof ReadableStream
      ? file.writeFile(contents(body, trailer))
      : writeBytes(file, typeof body === 'string' ? Buffer.from(body) : body, encodeTrailer(trailer)))
    await file.sync()
  } finally {
    await file.close()
  }
}

async function* contents(body: ReadableStream<Uint8Array>, trailer: Trailer): AsyncGenerator<Uint8Array> {
  yield* body
  yield encodeTrailer(trailer)
}

/** Small objects in one write. */
async function writeBytes(file: FileHandle, body: Uint8Array, end: Buffer): Promise<void> {
  if (body.byteLength <= smallBytes) return file.writeFile(Buffer.concat([body, end]))
  await file.writeFile(body)
  await file.writeFile(end)
}

function encodeTrailer(trailer: Trailer): Buffer {
  const json = Buffer.from(JSON.stringify(trailer))
  const length = Buffer.alloc(4)
  length.writeUInt32BE(json.byteLength)
  return Buffer.concat([json, length, Buffer.from(mark)])
}

/** Undefined when there is no such file. */
export async function readObjectInfo(path: string): Promise<ObjectFileInfo | undefined> {
  const file = await ifExists(open(path, 'r'))
  if (!file) return undefined
  try {
    return (await readEnd(file, path, trailerGuessBytes)).info
  } finally {
    await file.close()
  }
}

/**
 * Opens an object for reading; what is read stays the same when the object is replaced or deleted meanwhile.
 * Undefined when there is no such file.
 * @throws InvalidRangeError, the signal's reason
 */
export async function openObjectFile(
  path: string,
  range?: ByteRange,
  signal?: AbortSignal,
): Promise<{ info: ObjectFileInfo; body: ReadableStream<Uint8Array> } | undefined> {
  signal?.throwIfAborted()
  const file = await ifExists(open(path, 'r'))
  if (!file) return undefined
  try {
    const { info, bytes, position } = await readEnd(file, path, smallBytes)
    signal?.throwIfAborted()
    const { start, end } = resolveRange(info.size, range)
    if (start < position) return { info, body: streamOf(file, { start, end }, signal) }
    await file.close()
    return { info, body: new Blob([bytes.subarray(start - position, end - position)]).stream() }
  } catch (error) {
    await file.close()
    throw error
  }
}

/** Undefined when there is no such file or folder, as one of the codes says. */
export async function ifExists<T>(
  work: Promise<T>,
  missingCodes: readonly (string | undefined)[] = ['ENOENT', 'ENOTDIR'],
): Promise<T | undefined> {
  try {
    return await work
  } catch (error) {
    if (missingCodes.includes((error as NodeJS.ErrnoException).code)) return undefined
    throw error
  }
}

interface FileEnd {
  info: ObjectFileInfo
  /** The file's last bytes, from `position` on. */
  bytes: Buffer<ArrayBuffer>
  position: number
}

async function readEnd(file: FileHandle, path: string, guess: number): Promise<FileEnd> {
  const { size, mtimeMs } = await file.stat()
  const position = Math.max(0, size - guess)
  const bytes = Buffer.alloc(size - position)
  await file.read(bytes, 0, bytes.byteLength, position)
  if (bytes.byteLength < 8 || bytes.toString('latin1', bytes.byteLength - 4) !== mark)
    throw new StoreUnavailableError(`${path} is damaged: it has no trailer. Restore or delete it.`)
  const length = bytes.readUInt32BE(bytes.byteLength - 8)
  if (length + 8 > bytes.byteLength && position > 0) return readEnd(file, path, length + 8)
  const trailer = JSON.parse(bytes.toString('utf8', bytes.byteLength - 8 - length, bytes.byteLength - 8))
  return { info: { ...trailer, size: size - length - 8, lastModified: mtimeMs }, bytes, position }
}

/** Bytes `[start, end)` of a file, read on demand; the file is closed at the end, by a failure and when cancelled. */
function streamOf(
  file: FileHandle,
  { start, end }: { start: number; end: number },
  signal?: AbortSignal,
): ReadableStream<Uint8Array> {
  let position = start
  let abort = () => {}
  const close = () => {
    signal?.removeEventListener('abort', abort)
    return file.close()
  }
  return new ReadableStream<Uint8Array>(
    {
      start(controller) {
        abort = () => {
          controller.error(signal!.reason)
          close().catch(() => {})
        }
        signal?.addEventListener('abort', abort, { once: true })
      },
      async pull(controller) {
        try {
          const chunk = new Uint8Array(Math.min(chunkBytes, end - position))
          const { bytesRead } = await file.read(chunk, 0, chunk.byteLength, position)
          position += bytesRead
          controller.enqueue(chunk.subarray(0, bytesRead))
          if (position < end && bytesRead > 0) return
          await close()
          controller.close()
        } catch (error) {
          await close()
          throw error
        }
      },
      cancel: close,
    },
    { highWaterMark: 0 },
  )
}
