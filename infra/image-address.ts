import { type ImageFetchError, imageFetchFaults } from './image-fetch-error.ts'

/** What an image is asked for with. */
export const imageRequestHeaders = {
  'user-agent': 'turbine',
  accept: 'image/*',
  'accept-encoding': 'identity',
}

/** The head of a response. */
export interface ImageResponseHead {
  status: number
  header(name: string): string | null | undefined
}

const redirectStatuses = new Set([301, 302, 303, 307, 308])
const acceptedTypes = /^(image\/[\w.+-]+|(application|binary)\/octet-stream)$/

/**
 * Reads an address that a caller gave, or that `base` redirects to.
 * @throws ImageFetchError `image_url_invalid`
 */
export function parseImageAddress(address: string, schemes: string[], base?: URL): URL {
  const { invalid } = imageFetchFaults
  const url = URL.parse(address, base?.href)
  if (!url) throw invalid('is not an address. Send an https address or a data: URL')
  if (!schemes.includes(url.protocol.slice(0, -1)))
    throw invalid(`leads to ${url.protocol.slice(0, -1)}; only ${schemes.join(' and ')} can be fetched`)
  if (url.username || url.password) throw invalid('has a user name or password. Leave them out')
  return url
}

/** Where a response redirects to; undefined when it does not. */
export function redirectOf({ status, header }: ImageResponseHead): string | undefined {
  return (redirectStatuses.has(status) && header('location')) || undefined
}

/** `image/png` of `Image/PNG; charset=binary`; a response without a type counts as bytes. */
export function contentTypeOf({ header }: ImageResponseHead): string {
  const [type = ''] = (header('content-type') ?? 'application/octet-stream').split(';')
  return type.trim().toLowerCase()
}

/** What can be said against a response before its body is read. */
export function faultOf(head: ImageResponseHead, maxBytes: number): ImageFetchError | undefined {
  if (head.status !== 200) return imageFetchFaults.badStatus(head.status)
  const type = contentTypeOf(head)
  if (!acceptedTypes.test(type)) return imageFetchFaults.badType(type)
  return Number(head.header('content-length') ?? 0) > maxBytes
    ? imageFetchFaults.tooLarge(maxBytes)
    : undefined
}

/**
 * The whole body.
 * @throws ImageFetchError `image_url_too_large` as soon as more than `maxBytes` were read
 */
export async function readLimited(body: AsyncIterable<Uint8Array>, maxBytes: number): Promise<Uint8Array> {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body) {
    size += chunk.byteLength
    if (size > maxBytes) throw imageFetchFaults.tooLarge(maxBytes)
    chunks.push(chunk)
  }
  const bytes = new Uint8Array(size)
  let at = 0
  for (const chunk of chunks) {
    bytes.set(chunk, at)
    at += chunk.byteLength
  }
  return bytes
}
