import { readFile, stat } from 'node:fs/promises'
import { TurbineError } from '../../../edge/contract/errors.ts'

/** A file above this many bytes is not read: nothing that may be captioned is that large. */
const maxFileBytes = 512 * 1024 * 1024

/** Fetches an `https` address. Its errors carry `code` and `retriable`. */
export type FetchImage = (url: string) => Promise<Uint8Array>

/**
 * The encoded bytes of an image that is named by a path, an address or a `data:` URL.
 * @throws TurbineError `image_not_found`, `image_unreadable`, `image_too_large`, `image_url_invalid`, or what
 * `fetchImage` throws.
 */
export async function readImage(location: string, fetchImage: FetchImage): Promise<Uint8Array> {
  if (/^data:/i.test(location)) return readDataUrl(location)
  if (/^https?:\/\//i.test(location)) return fetchImage(location)
  const scheme = /^([a-z][a-z0-9+.-]*):\/\//i.exec(location)?.[1]
  if (scheme)
    throw imageError('image_url_invalid', `${scheme}:// addresses are not read. Use a path, https or data:.`)
  return readImageFile(location)
}

async function readImageFile(path: string): Promise<Uint8Array> {
  try {
    const { size } = await stat(path)
    if (size > maxFileBytes) throw imageError('image_too_large', `The file has ${size} bytes; scale it down.`)
    return await readFile(path)
  } catch (error) {
    if (error instanceof TurbineError) throw error
    const code = (error as NodeJS.ErrnoException).code
    if (code === 'ENOENT' || code === 'ENOTDIR')
      throw imageError('image_not_found', `There is no file ${path}.`, error)
    throw imageError('image_unreadable', `The file cannot be read (${code ?? String(error)}).`, error)
  }
}

function readDataUrl(url: string): Uint8Array {
  const match = /^data:[^,]*;base64,/i.exec(url)
  const payload = match && url.slice(match[0].length)
  // Buffer skips what is not base64, so a broken payload would go on as a broken image.
  if (!payload || !/^[A-Za-z0-9+/_-]+={0,2}$/.test(payload))
    throw imageError('image_url_invalid', 'The data: URL is not base64: data:image/png;base64,....')
  return Buffer.from(payload, 'base64')
}

const imageError = (code: string, message: string, cause?: unknown) =>
  new TurbineError(message, { status: 400, code, cause })
