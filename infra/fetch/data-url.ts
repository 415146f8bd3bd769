import { imageFaults } from './faults.ts'

const invalid = (problem: string) =>
  imageFaults.invalid(`${problem} Send "data:image/jpeg;base64,..." with the image's bytes in base64.`)

/** The media type and its parameters; what comes before the comma is not searched any further. */
const maxHeadCharacters = 256

/**
 * The bytes in a base64 `data:` URL (RFC 2397) of an image; base64's alphabet for URLs, missing padding and white space
 * are understood too.
 * @param maxBytes of the image
 * @throws ImageError `image_url_invalid` when it is malformed, is not base64 or says that it is no image;
 * `image_url_too_large`
 */
export function decodeDataUrl(url: string, maxBytes = Number.POSITIVE_INFINITY): Uint8Array {
  const comma = url.slice(0, maxHeadCharacters).indexOf(',')
  if (comma < 0) throw invalid('The data URL has no comma after its media type.')
  const [mediaType = '', ...parameters] = url.slice('data:'.length, comma).toLowerCase().split(';')
  if (parameters.at(-1)?.trim() !== 'base64') throw invalid('The data URL is not in base64.')
  if (mediaType !== '' && mediaType !== 'application/octet-stream' && !mediaType.startsWith('image/'))
    throw invalid('The data URL holds something else than an image.')
  const base64 = url.slice(comma + 1)
  const bytes = decodeBase64(base64, maxBytes) ?? decodeSpacedBase64(base64, maxBytes)
  if (!bytes) throw invalid('The data URL has characters that are not base64, or is cut off.')
  return bytes
}

/**
 * Undefined if it is not base64. `Buffer` takes a tenth of the time of `atob`, but leaves foreign characters out, and
 * takes those beyond Latin-1 for others.
 */
function decodeBase64(text: string, maxBytes: number): Uint8Array | undefined {
  const padding = text.endsWith('==') ? 2 : text.endsWith('=') ? 1 : 0
  const characters = text.length - padding
  if (characters % 4 === 1 || Buffer.byteLength(text) !== text.length) return undefined
  const size = Math.floor((characters * 3) / 4)
  if (size > maxBytes) throw imageFaults.tooLarge(maxBytes)
  const bytes = Buffer.allocUnsafeSlow(size)
  return bytes.write(text, 'base64') === size ? new Uint8Array(bytes.buffer) : undefined
}

const spaces = [' ', '\n', '\r', '\t', '\f']
const isSpace = (byte: number) => byte === 0x20 || (byte >= 0x09 && byte <= 0x0d)

const decodeSpacedBase64 = (text: string, maxBytes: number) =>
  spaces.some((space) => text.includes(space)) ? decodeBase64(withoutSpace(text), maxBytes) : undefined

/** By bytes and by index: a regular expression, or an iterator, takes ten times as long for megabytes of spaces. */
function withoutSpace(text: string): string {
  const bytes = Buffer.from(text)
  let kept = 0
  for (let at = 0; at < bytes.length; at++) {
    const byte = bytes[at]!
    if (!isSpace(byte)) bytes[kept++] = byte
  }
  return bytes.toString('latin1', 0, kept)
}
