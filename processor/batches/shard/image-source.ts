import { TurbineError } from '../../../edge/contract/errors.ts'
import { decodeDataUrl } from '../../../edge/contract/image.ts'
import { assertGranted, type Tenant } from '../../../edge/contract/tenant.ts'
import type { ImageFetcher } from '../../../infra/fetch-image.ts'
import { ImageFetchError } from '../../../infra/image-fetch-error.ts'
import { retry } from '../../../infra/retry.ts'
import { InvalidKeyError } from '../../../infra/store/key.ts'
import { type Buckets, BucketUnavailableError, type StoredObject } from '../../../infra/store/store.ts'

export interface ImageSourceOptions {
  /** Fetches https addresses; it alone decides which are safe. */
  images: Pick<ImageFetcher, 'fetch'>
  /** For `s3://` addresses; absent where there is no S3. */
  buckets?: Buckets
  /** Pauses before an address is tried again, ms; default: two, so that there are three tries. */
  retryPausesMs?: readonly number[]
}

export interface ImageAsk {
  /** Whose line it is: an `s3://` address must lie where it may read. */
  tenant: Tenant
  maxBytes: number
  signal: AbortSignal
}

/**
 * The bytes of the image that a line of a batch names by a `data:`, https or `s3://` address.
 * @throws TurbineError `image_not_found`, `image_forbidden`, `image_url_invalid`, `image_url_too_large`,
 * `s3_uri_invalid`, `s3_not_granted`, `s3_unavailable`; ImageFetchError for the rest of what can be wrong with an
 * address; StoreUnavailableError when S3 itself is away, so that the line is not to blame; the signal's reason
 */
export type ImageSource = (url: string, ask: ImageAsk) => Promise<Uint8Array>

const defaultRetryPausesMs = [500, 2000]

/**
 * @example
 * const imageAt = createImageSource({ images: createImageFetcher({ maxBytes }), buckets: s3.bucket })
 * const bytes = await imageAt('s3://photos/cat.jpg', { tenant, maxBytes, signal })
 */
export function createImageSource(options: ImageSourceOptions): ImageSource {
  return async (url, ask) => {
    ask.signal.throwIfAborted()
    const image = await readImage(url, ask, options)
    assertSize(image.length, ask.maxBytes)
    return image
  }
}

async function readImage(url: string, ask: ImageAsk, options: ImageSourceOptions): Promise<Uint8Array> {
  if (/^data:/i.test(url)) return decodeDataUrl(url)
  if (/^s3:/i.test(url)) return readObject(url, ask, options.buckets)
  return fetchWithRetries(url, ask.signal, options)
}

async function fetchWithRetries(
  url: string,
  signal: AbortSignal,
  { images, retryPausesMs = defaultRetryPausesMs }: ImageSourceOptions,
): Promise<Uint8Array> {
  const fetching = retry(() => images.fetch(url, { signal }), {
    tries: 1 + retryPausesMs.length,
    retriable: (error) => error instanceof ImageFetchError && error.retriable,
    pauseMs: (failures) => retryPausesMs[failures - 1]!,
    signal,
  })
  const { bytes } = await fetching.catch((error: unknown) => {
    throw lineFault(error)
  })
  return bytes
}

/** What an address answered, in the words that all kinds of addresses share. */
function lineFault(error: unknown): unknown {
  if (!(error instanceof ImageFetchError)) return error
  const { status, message } = error
  if (status === 404 || status === 410) return atFault('image_not_found', message, error)
  if (status === 401 || status === 403) return atFault('image_forbidden', message, error)
  return error
}

async function readObject(url: string, { tenant, maxBytes, signal }: ImageAsk, buckets?: Buckets) {
  const { bucket, key } = assertGranted(tenant, 'read', url, 'image_url')
  if (!buckets)
    throw atFault(
      's3_unavailable',
      'This service reads no s3:// addresses. Ask its operator to set S3_ENDPOINT, or use an https address.',
    )
  const object = await buckets(bucket).get(key).catch(rethrowObjectFault)
  if (!object) throw atFault('image_not_found', `There is no object at ${url.slice(0, 200)}.`)
  return readBody(object, maxBytes, signal)
}

async function readBody({ size, body }: StoredObject, maxBytes: number, signal: AbortSignal) {
  try {
    signal.throwIfAborted()
    assertSize(size, maxBytes)
  } catch (error) {
    await body.cancel(error)
    throw error
  }
  return new Uint8Array(await new Response(body).arrayBuffer())
}

/** A bucket that the service cannot read is the line's fault: the store itself may be well. */
function rethrowObjectFault(error: unknown): never {
  if (error instanceof InvalidKeyError) throw atFault('s3_uri_invalid', error.message, error)
  if (!(error instanceof BucketUnavailableError)) throw error
  throw atFault(error.fault === 'missing' ? 'image_not_found' : 'image_forbidden', error.message, error)
}

function assertSize(size: number, maxBytes: number): void {
  if (size > maxBytes)
    throw atFault(
      'image_url_too_large',
      `The image has ${size} bytes; at most ${maxBytes} are accepted. Scale it down or compress it.`,
    )
}

const atFault = (code: string, message: string, cause?: unknown) =>
  new TurbineError(message, { status: 400, code, param: 'image_url', cause })
