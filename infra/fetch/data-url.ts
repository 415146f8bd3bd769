import { decodeBase64Url } from 'hono/utils/encode'
import { imageFaults } from './faults.ts'

const invalid = (problem: string, cause?: unknown) =>
  imageFaults.invalid(`${problem} Send "data:image/jpeg;base64,..." with the image's bytes in base64.`, cause)

/**
 * The bytes in a base64 `data:` URL (RFC 2397) of an image; base64's alphabet for URLs is understood too.
 * @throws ImageError `image_url_invalid` when it is malformed, is not base64 or says that it is no image.
 */
export function decodeDataUrl(url: string): Uint8Array {
  const comma = url.indexOf(',')
  if (comma < 0) throw invalid('The data URL has no comma after its media type.')
  const [mediaType = '', ...parameters] = url.slice('data:'.length, comma).toLowerCase().split(';')
  if (parameters.at(-1)?.trim() !== 'base64') throw invalid('The data URL is not in base64.')
  if (mediaType !== '' && mediaType !== 'application/octet-stream' && !mediaType.startsWith('image/'))
    throw invalid('The data URL holds something else than an image.')
  try {
    return decodeBase64Url(url.slice(comma + 1))
  } catch (cause) {
    throw invalid('The data URL has characters that are not base64, or is cut off.', cause)
  }
}
