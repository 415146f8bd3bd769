import { readFile, stat } from 'node:fs/promises'
import { ImageError } from '../errors.ts'

/** Larger files are not read: no image that can be captioned is that large. */
const maxFileBytes = 512 * 1024 * 1024

/**
 * The encoded bytes of an image file.
 * @throws ImageError `image_not_found`, `image_unreadable`, `image_too_large`
 */
export async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path)
    if (size > maxFileBytes)
      throw new ImageError('image_too_large', `The file has ${size} bytes; scale it down.`)
    return await readFile(path)
  } catch (cause) {
    if (cause instanceof ImageError) throw cause
    const { code } = cause as NodeJS.ErrnoException
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw new ImageError('image_not_found', `There is no file ${path}.`, { cause })
    throw new ImageError('image_unreadable', `The file cannot be read (${code ?? String(cause)}).`, { cause })
  }
}
