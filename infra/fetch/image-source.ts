import {
  type Decoders,
  decoded,
  encodingsOf,
  isDecodingError,
  peeked,
  unsupportedEncoding,
} from '../compression/content-encoding.ts'
import { BaseError, TurbineError } from '../errors.ts'
import { InvalidKeyError } from '../store/key.ts'
import { S3RequestError, s3Answer, s3Fault } from '../store/s3-errors.ts'
import {
  type Buckets,
  BucketUnavailableError,
  type StoredObject,
  StoreUnavailableError,
} from '../store/store.ts'
import { largeCharacters, nextTurn, pausableLimit } from '../timing.ts'
import { decodeDataUrl } from './data-url.ts'
import { imageFaults, s3Unavailable } from './faults.ts'
import { type ReadBodyOptions, readBody } from './read-body.ts'
import { createWebFetcher, defaultTimeoutMs, visitOf, type WebAsk, type WebOptions } from './web.ts'

export interface ImageSourceOptions extends WebOptions {
  /** For `s3://` addresses; absent where there is no S3. */
  buckets?: Buckets
  /** Encodings of objects in buckets that are undone; default: none. */
  decoders?: Decoders
  /** Reads a file by its path; absent where paths are refused. */
  readFile?: (path: string) => Promise<Uint8Array>
}

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
export function createImageSource(options: ImageSourceOptions): ImageSource {
  const { maxBytes, readFile } = options
  const fetchImage = createWebFetcher(options)

  return async (address, ask) => {
    ask.signal.throwIfAborted()
    const kind = kindOf(address)
    if (kind === 'data') {
      await ask.place?.()
      if (address.length > largeCharacters) await nextTurn()
      return await decodeDataUrl(address, maxBytes)
    }
    if (address.length > maxAddressCharacters) throw addressTooLong()
    if (readFile && !isAddress(address)) {
      await ask.place?.()
      return readFile(address)
    }
    switch (kind) {
      case 's3':
        return readObject(address, ask, options)
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

async function readObject(uri: string, ask: ImageAsk, options: ImageSourceOptions): Promise<Uint8Array> {
  const { bucket } = ask.granted(uri)
  const { buckets, hosts } = options
  if (!buckets) throw s3Unavailable('image_url')
  const read = async () => {
    const place = await ask.place?.()
    try {
      return await readObjectNow(uri, ask, { ...options, buckets })
    } catch (error) {
      place?.release()
      throw error
    }
  }
  // A bucket is paced as a host is: S3 limits its callers too.
  return hosts ? hosts.visit(visitOf(ask, `s3://${bucket}`), read) : read()
}

async function readObjectNow(
  uri: string,
  { granted, signal, room }: ImageAsk,
  { buckets, decoders, maxBytes, timeoutMs = defaultTimeoutMs }: ImageSourceOptions & { buckets: Buckets },
): Promise<Uint8Array> {
  const { bucket, key } = granted(uri)
  const limit = pausableLimit(timeoutMs, () => lateObject(timeoutMs))
  const within = AbortSignal.any([signal, limit.signal])
  try {
    const object = await buckets(bucket).get(key, undefined, { signal: within })
    if (!object) throw imageFaults.noObject(uri)
    const options = {
      maxBytes,
      signal: within,
      room: room && ((bytes: number) => limit.outside(room(bytes))),
    }
    const encodings = encodingsOf(object.contentEncoding)
    if (encodings.length > 0) return await readEncoded(uri, object, encodings, { decoders, ...options })
    const image = await readBody(object.body, { size: object.size, ...options })
    if (image.length < object.size) throw cutOff()
    return image
  } catch (error) {
    signal.throwIfAborted()
    throw objectFault(error, { uri, bucket })
  } finally {
    limit.clear()
  }
}

/** An object that was stored compressed, as its `Content-Encoding` says, or that only says so. */
async function readEncoded(
  uri: string,
  object: StoredObject,
  encodings: string[],
  { decoders = {}, ...options }: Omit<ReadBodyOptions, 'size'> & Pick<ImageSourceOptions, 'decoders'>,
): Promise<Uint8Array> {
  const { head, whole } = await peeked(object.body)
  const isPlain = encodings.join() === 'gzip' && !(head[0] === 0x1f && head[1] === 0x8b)
  const unsupported = unsupportedEncoding(encodings, decoders)
  const body = isPlain || unsupported ? whole : decoded(whole, encodings, decoders)
  const stream = ReadableStream.from(body) as ReadableStream<Uint8Array>
  try {
    if (unsupported && !isPlain) throw imageFaults.encodedObject(uri, unsupported)
    return await readBody(stream, options)
  } catch (error) {
    await whole.return?.()
    throw isDecodingError(error) ? imageFaults.damaged(error) : error
  }
}

/** An object that came late, or not whole. */
class DeliveryError extends BaseError {}

const lateObject = (ms: number) => new DeliveryError(`it did not come within ${ms} ms`)
const cutOff = () => new DeliveryError('it is shorter than announced')

const invalidUri = { status: 400, code: 's3_uri_invalid', param: 'image_url' } as const

/**
 * Makes any failure at another bucket an error of the image: whether the service's own store works is decided by that
 * store alone.
 */
function objectFault(error: unknown, { uri, bucket }: { uri: string; bucket: string }): TurbineError {
  if (error instanceof TurbineError) return error
  if (error instanceof InvalidKeyError)
    return new TurbineError(error.message, { ...invalidUri, cause: error })
  const { noBucket, closedBucket, refusedObject, unavailableObject } = imageFaults
  if (error instanceof BucketUnavailableError)
    return error.fault === 'missing' ? noBucket(bucket, error) : closedBucket(bucket, error)
  if (error instanceof S3RequestError) return refusedObject(uri, error)
  const asksForLess =
    s3Fault((error instanceof StoreUnavailableError ? error.cause : error) ?? {}).status === 503
  return unavailableObject(uri, error instanceof DeliveryError ? error.message : s3Answer(error), {
    cause: error,
    lesson: { kind: asksForLess ? 'less' : 'silence' },
  })
}
