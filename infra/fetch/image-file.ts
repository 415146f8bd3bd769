import { constants } from 'node:fs'
import { open } from 'node:fs/promises'
import { ImageError } from '../errors.ts'
import { encodeFileName } from '../file-name.ts'

/** Larger files are not read: no image that can be captioned is that large. */
const maxFileBytes = 512 * 1024 * 1024

/**
 * The encoded bytes of an image file.
 * @throws ImageError `image_not_found`, `image_unreadable`, `image_too_large`
 */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    return await readRegularFile(path)
  } catch (cause) {
    if (cause instanceof ImageError) throw cause
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new ImageError('image_not_found', `There is no file ${path}.`, { cause })
    throw new ImageError('image_unreadable', `The file cannot be read (${code ?? String(cause)}).`, { cause })
  }
}

/** Not for a writer of a pipe, either. */
const openWithoutWaiting = (path: string) =>
  open(encodeFileName(path), constants.O_RDONLY | (constants.O_NONBLOCK ?? 0))

/**
 * The first bytes of a regular file; undefined for a folder, a pipe or a device.
 * @throws the error of the file system
 */
export async function readFileHead(path: string, bytes: number): Promise<Uint8Array | undefined> {
  const file = await openWithoutWaiting(path)
  try {
    if (!(await file.stat()).isFile()) return undefined
    const { buffer, bytesRead } = await file.read(Buffer.alloc(bytes), 0, bytes, 0)
    return buffer.subarray(0, bytesRead)
  } finally {
    await file.close()
  }
}

/** Without waiting for a writer of a pipe, and never more than the file had at first. */
async function readRegularFile(path: string): Promise<Uint8Array> {
  const file = await openWithoutWaiting(path)
  try {
    const found = await file.stat()
    if (!found.isFile())
      throw new ImageError(
        'image_unreadable',
        `${path} is no regular file, but a folder, a pipe or a device.`,
      )
    if (found.size > maxFileBytes)
      throw new ImageError('image_too_large', `The file has ${found.size} bytes; scale it down.`)
    const bytes = new Uint8Array(found.size)
    let end = 0
    while (end < bytes.length) {
      const { bytesRead } = await file.read(bytes, end, bytes.length - end, end)
      if (bytesRead === 0) break
      end += bytesRead
    }
    return bytes.subarray(0, end)
  } finally {
    await file.close()
  }
}
