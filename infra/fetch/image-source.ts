import { ImageError, TurbineError } from '../errors.ts'
import { retry } from '../retry.ts'
import { InvalidKeyError } from '../store/key.ts'
import { type Buckets, BucketUnavailableError } from '../store/store.ts'
import { largeCharacters, nextTurn } from '../timing.ts'
import { decodeDataUrl } from './data-url.ts'
import { imageFaults, s3Unavailable } from './faults.ts'
import { createWebFetcher, readLimited, type WebOptions } from './web.ts'

export interface ImageSourceOptions extends WebOptions {
  /** For `s3://` addresses; absent where there is no S3. */
  buckets?: Buckets
  /** Reads a file by its path; absent where paths are refused. */
  readFile?: (path: string) => Promise<Uint8Array>
  /** Pauses before an https address is tried again, ms. Default: none, so that there is one try. */
  retryPausesMs?: readonly number[]
}

export interface ImageAsk {
  /**
   * Location of an `s3://` address that the caller may read.
   * @throws TurbineError `s3_uri_invalid`, `s3_not_granted`
   */
  granted(uri: string): { bucket: string; key: string }
  signal: AbortSignal
}

/**
 * Fetches an image from a `data:`, https or `s3://` address.
 * @throws ImageError when the address or the image is invalid; TurbineError `s3_unavailable` and what `granted` throws;
 * StoreUnavailableError when S3 is unavailable; the signal's reason
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
export function createImageSource(options: ImageSourceOptions): ImageSource {
  const { maxBytes, readFile, retryPausesMs = [] } = options
  const fetchOnce = createWebFetcher(options)

  const fetchImage = (url: string, signal: AbortSignal): Promise<Uint8Array> =>
    retry(() => fetchOnce(url, signal), {
      tries: 1 + retryPausesMs.length,
      retriable: (error) => error instanceof ImageError && error.retriable,
      pauseMs: (failures) => retryPausesMs[failures - 1]!,
      signal,
    })

  return async (address, { granted, signal }) => {
    signal.throwIfAborted()
    const scheme = /^[a-z0-9+.-]+(?=:)/i.exec(address.slice(0, maxSchemeCharacters))?.[0].toLowerCase()
    if (scheme === 'data') {
      if (address.length > largeCharacters) await nextTurn()
      return decodeDataUrl(address, maxBytes)
    }
    if (address.length > maxAddressCharacters) throw addressTooLong()
    if (readFile && !isAddress(address)) return readFile(address)
    switch (scheme) {
      case 's3':
        return readObject(address, granted, signal, options)
      default:
        return fetchImage(address, signal)
    }
  }
}

async function readObject(
  uri: string,
  granted: ImageAsk['granted'],
  signal: AbortSignal,
  { buckets, maxBytes }: ImageSourceOptions,
): Promise<Uint8Array> {
  const { bucket, key } = granted(uri)
  if (!buckets) throw s3Unavailable('image_url')
  const object = await buckets(bucket)
    .get(key, undefined, { signal })
    .catch((error) => {
      throw bucketFault(error, bucket)
    })
  if (!object) throw imageFaults.noObject(uri)
  if (!signal.aborted && object.size <= maxBytes) return readLimited(object.body, maxBytes, signal)
  await object.body.cancel()
  signal.throwIfAborted()
  throw imageFaults.tooLarge(maxBytes)
}

const invalidUri = { status: 400, code: 's3_uri_invalid', param: 'image_url' } as const

/** A missing or closed bucket is an error of the request: S3 itself may be fine. */
function bucketFault(error: unknown, bucket: string): unknown {
  if (error instanceof InvalidKeyError)
    return new TurbineError(error.message, { ...invalidUri, cause: error })
  if (!(error instanceof BucketUnavailableError)) return error
  const { noBucket, closedBucket } = imageFaults
  return error.fault === 'missing' ? noBucket(bucket, error) : closedBucket(bucket, error)
}
