import {
  type Decoders,
  decoded,
  encodingsOf,
  isDecodingError,
  peeked,
  unsupportedEncoding,
} from '../compression/content-encoding.ts'
import { BaseError, ImageError, TurbineError } from '../errors.ts'
import { parseRetryAfter } from '../retry.ts'
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
import { imageFaults } from './faults.ts'
import { type ReadBodyOptions, readBody } from './read-body.ts'
import { isText, isWebPage } from './text-bytes.ts'
import { locationOf } from './web-address.ts'

/** What a web server answered: an image, or where it redirects to. */
export type WebAnswer = { image: Uint8Array } | { location: string }

/** An object that the caller may read. */
export interface ObjectPlace {
  /** As the caller wrote it, for errors. */
  uri: string
  bucket: string
  key: string
}

export interface ReadTask {
  /** Waits for memory for an image of so many bytes, before it is read; of several calls the last one counts. */
  room?(bytes: number): Promise<void>
  signal: AbortSignal
}

/**
 * Reads images, once it is decided that and when they may be read: in this thread, or in others. All of it throws ImageError,
 * and the signal's reason.
 */
export interface ImageReader {
  /** Sends one request to a web server. */
  web(url: URL, task: ReadTask): Promise<WebAnswer>
  /** Absent where there is no S3. */
  object?(place: ObjectPlace, task: ReadTask): Promise<Uint8Array>
  /** Decodes a `data:` URL. */
  data(url: string, task: ReadTask): Promise<Uint8Array>
  /** Absent where paths are refused. */
  file?(path: string, task: ReadTask): Promise<Uint8Array>
}

export interface ImageReaderOptions {
  /**
   * The platform's. It follows no redirect by itself, and must not connect to a private address that a public name
   * resolves to: Cloudflare's network has no way to one, and `openImageSource` checks each connection on Node.
   */
  fetch: (url: URL, init: RequestInit) => Promise<Response>
  /** Bytes of an image at most. */
  maxBytes: number
  /** Time for an object of a bucket, ms; default 10,000. */
  timeoutMs?: number
  /** Names the service to hosts; default `Turbine`. */
  userAgent?: string
  /** For `s3://` addresses; absent where there is no S3. */
  buckets?: Buckets
  /** Encodings of objects in buckets that are undone; default: none. */
  decoders?: Decoders
  /** Reads a file by its path; absent where paths are refused. */
  readFile?: (path: string) => Promise<Uint8Array>
}

export const defaultTimeoutMs = 10_000

/** Creates a reader in this thread, for any platform. */
export function createImageReader(options: ImageReaderOptions): ImageReader {
  const { maxBytes, buckets, readFile } = options
  return {
    web: (url, task) => readWeb(url, task, options),
    ...(buckets && { object: (place, task) => readObject(place, task, { ...options, buckets }) }),
    async data(url) {
      if (url.length > largeCharacters) await nextTurn()
      return decodeDataUrl(url, maxBytes)
    },
    ...(readFile && { file: (path) => readFile(path) }),
  }
}

/** What bytes of a text are called rightly. */
const textTypes = /^(text\/|application\/(?!octet-stream))/
const redirectStatuses = new Set([301, 302, 303, 307, 308])
/** 203: a proxy has changed the answer. */
const imageStatuses = new Set([200, 203])

async function readWeb(
  url: URL,
  { room, signal }: ReadTask,
  { fetch, maxBytes, userAgent = 'Turbine' }: ImageReaderOptions,
): Promise<WebAnswer> {
  const headers = { 'user-agent': userAgent, accept: 'image/*,*/*;q=0.5', 'accept-encoding': 'identity' }
  try {
    const response = await fetch(url, { redirect: 'manual', signal, headers })
    const location = redirectStatuses.has(response.status) && locationOf(response.headers)
    if (location) {
      await discard(response)
      return { location }
    }
    return { image: await readImage(response, url, { maxBytes, room, signal }) }
  } catch (error) {
    signal.throwIfAborted()
    // `fetch` wraps what the connection says into a TypeError.
    const reason = error instanceof TypeError ? (error.cause ?? error) : error
    if (isDecodingError(reason)) throw imageFaults.damaged(reason)
    throw reason instanceof ImageError ? reason : imageFaults.unreachable(reason)
  }
}

async function readImage(
  response: Response,
  url: URL,
  options: Omit<ReadBodyOptions, 'size'>,
): Promise<Uint8Array> {
  const { status, headers, body } = response
  if (!imageStatuses.has(status)) {
    await discard(response)
    throw imageFaults.badStatus({ status, host: url.host, afterMs: retryAfterOf(headers) })
  }
  if (!body) return new Uint8Array(0)
  const bytes = await readBody(body, { ...options, size: announcedSize(response) })
  if (isWebPage(bytes)) throw imageFaults.webPage()
  const [type = ''] = (headers.get('content-type') ?? '').toLowerCase().split(';')
  if (textTypes.test(type.trim()) && isText(bytes)) throw imageFaults.badType(type.trim())
  return bytes
}

/** Longest pause that a host can ask for, ms. */
const longestRetryAfterMs = 3_600_000

/** A date is compared with the host's own clock. */
function retryAfterOf(headers: Headers): number | undefined {
  const now = Date.parse(headers.get('date') ?? '') || undefined
  return parseRetryAfter(headers.get('retry-after'), { now, longestMs: longestRetryAfterMs })
}

/** Undefined without a length, and for what is decompressed on the way, whose length says nothing. */
function announcedSize({ headers }: Response): number | undefined {
  const length = headers.get('content-length')
  return length === null || headers.has('content-encoding') ? undefined : Number(length) || 0
}

/** Cancels a body that is not read. */
const discard = async ({ body }: Response) => body?.cancel().catch(() => {})

async function readObject(
  { uri, bucket, key }: ObjectPlace,
  { signal, room }: ReadTask,
  { buckets, decoders, maxBytes, timeoutMs = defaultTimeoutMs }: ImageReaderOptions & { buckets: Buckets },
): Promise<Uint8Array> {
  const limit = pausableLimit(timeoutMs, () => lateObject(timeoutMs))
  const within = AbortSignal.any([signal, limit.signal])
  try {
    const options = {
      maxBytes,
      signal: within,
      room: room && once((bytes) => limit.outside(room(bytes))),
    }
    const whole = await buckets(bucket).read?.(key, options)
    if (whole === 'none') throw imageFaults.noObject(uri)
    if (whole) return whole.bytes
    const object = await buckets(bucket).get(key, undefined, { signal: within })
    if (!object) throw imageFaults.noObject(uri)
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

/** Waits for memory again only for more than there is. */
function once(room: (bytes: number) => Promise<void>): (bytes: number) => Promise<void> {
  let most = -1
  return async (bytes) => {
    if (bytes <= most) return
    await room(bytes)
    most = bytes
  }
}

/** An object that was stored compressed, as its `Content-Encoding` says, or that only says so. */
async function readEncoded(
  uri: string,
  object: StoredObject,
  encodings: string[],
  { decoders = {}, ...options }: Omit<ReadBodyOptions, 'size'> & Pick<ImageReaderOptions, 'decoders'>,
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
