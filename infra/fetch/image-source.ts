import { imageFaults, s3Unavailable } from './faults.ts'
import { createImageReader, type ImageReader, type ImageReaderOptions } from './image-reader.ts'
import { createWebFetcher, visitOf, type WebAsk, type WebRules } from './web.ts'

export interface ImageSourceOptions extends WebRules, ImageReaderOptions {}

export interface ImageAsk extends WebAsk {
  /**
   * Location of an `s3://` address that the caller may read.
   * @throws TurbineError `s3_uri_invalid`, `s3_not_granted`
   */
  granted(uri: string): { bucket: string; key: string }
}

/**
 * Fetches an image from a `data:`, https or `s3://` address, once.
 * @throws ImageError when the address or the image is invalid, and, `retriable`, when it cannot be had now; TurbineError
 * `s3_unavailable` and what `granted` throws; the signal's reason
 */
export type ImageSource = (address: string, ask: ImageAsk) => Promise<Uint8Array>

const maxSchemeCharacters = 16
/** Maximum characters of an address without data: servers refuse longer ones. */
const maxAddressCharacters = 8192

const addressTooLong = () =>
  imageFaults.invalid(`The image address has more than ${maxAddressCharacters} characters.`)

/** Distinguishes addresses from paths. */
const isAddress = (text: string) => /^(data:|[a-z][a-z0-9+.-]*:\/\/)/i.test(text)

/**
 * Creates an image source for any platform; on Node use `openImageSource`, which guards its `fetch`.
 *
 * @example
 * const imageAt = createImageSource({ fetch: (url, init) => fetch(url, init), maxBytes, buckets: s3.bucket })
 * const bytes = await imageAt('s3://photos/cat.jpg', { granted, signal })
 */
export const createImageSource = (options: ImageSourceOptions): ImageSource =>
  imageSourceOf(createImageReader(options), options)

/** An image source that decides what may be read, and when; a reader reads it. */
export function imageSourceOf(reader: ImageReader, rules: WebRules): ImageSource {
  const fetchImage = createWebFetcher(reader, rules)

  return async (address, ask) => {
    ask.signal.throwIfAborted()
    const kind = kindOf(address)
    if (kind === 'data') {
      await ask.place?.()
      return reader.data(address, ask)
    }
    if (address.length > maxAddressCharacters) throw addressTooLong()
    if (reader.file && !isAddress(address)) {
      await ask.place?.()
      return reader.file(address, ask)
    }
    switch (kind) {
      case 's3':
        return readObject(address, ask, reader, rules)
      default:
        return fetchImage(address, ask)
    }
  }
}

/** Where the image at an address comes from. */
export function kindOf(address: string): 'data' | 's3' | 'web' {
  const scheme = /^[a-z0-9+.-]+(?=:)/i.exec(address.slice(0, maxSchemeCharacters))?.[0].toLowerCase()
  return scheme === 'data' || scheme === 's3' ? scheme : 'web'
}

async function readObject(
  uri: string,
  ask: ImageAsk,
  reader: ImageReader,
  { hosts }: WebRules,
): Promise<Uint8Array> {
  const { bucket } = ask.granted(uri)
  if (!reader.object) throw s3Unavailable('image_url')
  const read = async () => {
    const place = await ask.place?.()
    try {
      // What is granted may have changed while it waited.
      return await reader.object!({ uri, ...ask.granted(uri) }, ask)
    } catch (error) {
      place?.release()
      throw error
    }
  }
  // A bucket is paced as a host is: S3 limits its callers too.
  return hosts ? hosts.visit(visitOf(ask, `s3://${bucket}`), read) : read()
}
