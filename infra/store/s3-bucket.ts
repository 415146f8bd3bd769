import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
  type S3Client,
} from '@aws-sdk/client-s3'
import { timeLimit } from '../timing.ts'
import { assertS3Key } from './key.ts'
import { type ByteRange, InvalidRangeError, resolveRange } from './range.ts'
import { receivedBody, silence } from './s3-body.ts'
import type { DirectPut } from './s3-direct.ts'
import { isMissingObject, isUnnamedRefusal, S3RequestError, s3Fault, storeError } from './s3-errors.ts'
import { type PutTarget, putObject } from './s3-put.ts'
import type {
  GetOptions,
  ListOptions,
  ListPage,
  ObjectInfo,
  ObjectStore,
  PutOptions,
  ReadOptions,
  StoredObject,
  WholeObject,
} from './store.ts'

/** Connection that the buckets of one server share. */
export interface S3Connection extends Pick<PutTarget, 'uploads' | 'partBytes'> {
  client: S3Client
  /** `S3 at http://127.0.0.1:7070`, for messages. */
  server: string
  /** Time that a read may wait for the next bytes, ms. */
  stallMs: number
  /** Makes first attempts of whole objects; absent: the SDK does. */
  direct?: DirectAttempts
  /** Time for a request with all its attempts and, but for reads, the body of the response, ms. */
  totalMs: number
}

/** First attempts of `DirectS3`, which workerd has not. */
export interface DirectAttempts {
  get(bucket: string, key: string, options: ReadOptions): Promise<WholeObject | 'none' | undefined>
  put(put: DirectPut): Promise<string | undefined>
  close(): void
}

const maxListLimit = 1000

/** The object store in one bucket. Its keys are those of S3: any segments, as others have put them. */
export class S3Bucket implements ObjectStore {
  readonly #bucket: string
  readonly #connection: S3Connection
  #exists = false

  constructor(bucket: string, connection: S3Connection) {
    this.#bucket = bucket
    this.#connection = connection
  }

  async put(
    key: string,
    body: Uint8Array | string | ReadableStream<Uint8Array>,
    options?: PutOptions,
  ): Promise<{ etag: string }> {
    assertS3Key(key)
    const { client, uploads, partBytes, direct } = this.#connection
    const target: PutTarget = {
      uploads,
      partBytes,
      bucket: this.#bucket,
      send: (command) => this.#send((options) => client.send(command, options)),
      direct: direct && ((put) => direct.put({ ...put, bucket: this.#bucket, key })),
      head: (key) => this.#head(key),
      toError: this.#toError,
    }
    return putObject(target, key, typeof body === 'string' ? new TextEncoder().encode(body) : body, options)
  }

  async get(key: string, range?: ByteRange, { signal }: GetOptions = {}): Promise<StoredObject | undefined> {
    assertS3Key(key)
    const found = await this.#get(key, rangeHeader(range), signal)
    if (!found) return undefined
    return {
      ...infoOf(key, found, range ? totalSize(found.ContentRange!) : found.ContentLength!),
      contentType: found.ContentType ?? 'application/octet-stream',
      ...(found.ContentEncoding && { contentEncoding: found.ContentEncoding }),
      body: receivedBody(found.Body!.transformToWebStream(), {
        toError: this.#toError,
        // Some platforms decompress on the way.
        bytes: found.ContentEncoding ? undefined : found.ContentLength,
        stallMs: this.#connection.stallMs,
        signal,
      }),
    }
  }

  async read(key: string, options: ReadOptions): Promise<WholeObject | 'none' | undefined> {
    assertS3Key(key)
    return this.#connection.direct?.get(this.#bucket, key, options)
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    assertS3Key(key)
    const found = await this.#head(key)
    return found && infoOf(key, found, found.ContentLength!)
  }

  async delete(key: string): Promise<void> {
    assertS3Key(key)
    const command = new DeleteObjectCommand({ Bucket: this.#bucket, Key: key })
    try {
      await this.#send((options) => this.#connection.client.send(command, options))
    } catch (error) {
      if (!isMissingObject(s3Fault(error))) throw this.#toError(error)
    }
  }

  async list(
    prefix: string,
    { limit = maxListLimit, continuation, startAfter }: ListOptions = {},
  ): Promise<ListPage> {
    const command = new ListObjectsV2Command({
      Bucket: this.#bucket,
      Prefix: prefix,
      MaxKeys: Math.min(limit, maxListLimit),
      ContinuationToken: continuation,
      StartAfter: startAfter,
      // XML cannot hold every character that a key can.
      EncodingType: 'url',
    })
    const page = await this.#send((options) => this.#connection.client.send(command, options)).catch(
      (error) => {
        throw this.#toError(error)
      },
    )
    // Some servers ignore it.
    const keyOf = page.EncodingType === 'url' ? decodeKey : (key: string) => key
    const objects = (page.Contents ?? []).map((object) => infoOf(keyOf(object.Key!), object, object.Size!))
    return page.NextContinuationToken ? { objects, continuation: page.NextContinuationToken } : { objects }
  }

  async close(): Promise<void> {}

  async #get(key: string, Range?: string, signal?: AbortSignal): Promise<GetObjectCommandOutput | undefined> {
    const command = new GetObjectCommand({ Bucket: this.#bucket, Key: key, Range })
    try {
      const found = await this.#send((options) => this.#connection.client.send(command, options), signal)
      if (!Range || found.ContentRange) return found
      await discard(found)
    } catch (error) {
      signal?.throwIfAborted()
      const fault = s3Fault(error)
      if (isMissingObject(fault)) return undefined
      if (fault.status === 416)
        throw new InvalidRangeError(`The range ${Range} is not in the object "${key}".`, { cause: error })
      throw this.#toError(error)
    }
    throw new S3RequestError(`${this.#connection.server} does not read ranges. Use a server that does.`)
  }

  async #head(key: string): Promise<HeadObjectCommandOutput | undefined> {
    const command = new HeadObjectCommand({ Bucket: this.#bucket, Key: key })
    try {
      return await this.#send((options) => this.#connection.client.send(command, options))
    } catch (error) {
      const fault = s3Fault(error)
      if (isUnnamedRefusal(fault)) throw this.#toError(await this.#namedRefusal(key, error))
      if (!isMissingObject(fault)) throw this.#toError(error)
      await this.#assertBucket()
      return undefined
    }
  }

  /** Gets the error of a GET, which has a code, for one of a HEAD, which has none. */
  async #namedRefusal(key: string, unnamed: unknown): Promise<unknown> {
    const command = new GetObjectCommand({ Bucket: this.#bucket, Key: key })
    try {
      await discard(await this.#send((options) => this.#connection.client.send(command, options)))
      return unnamed
    } catch (named) {
      return named
    }
  }

  /** HEAD does not distinguish a missing bucket from a missing object, so the bucket is checked once. */
  async #assertBucket(): Promise<void> {
    if (this.#exists) return
    await this.list('', { limit: 1 })
    this.#exists = true
  }

  /** The SDK's own limits end with the first byte of a response, which leaves its body without one. */
  async #send<T>(
    send: (options: { abortSignal: AbortSignal }) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const { totalMs } = this.#connection
    const limit = timeLimit(totalMs, () => silence(totalMs))
    try {
      return await send({ abortSignal: signal ? AbortSignal.any([limit.signal, signal]) : limit.signal })
    } catch (error) {
      throw limit.signal.aborted ? limit.signal.reason : error
    } finally {
      limit.clear()
    }
  }

  readonly #toError = (error: unknown) =>
    storeError(error, { server: this.#connection.server, bucket: this.#bucket })
}

/** Frees the connection of a response that is not read. */
const discard = async ({ Body }: GetObjectCommandOutput) => Body?.transformToWebStream().cancel()

function infoOf(
  key: string,
  { ETag, LastModified }: { ETag?: string; LastModified?: Date },
  size: number,
): ObjectInfo {
  // Headers have whole seconds, listings may have more.
  const lastModified = Math.floor((LastModified?.getTime() ?? 0) / 1000) * 1000
  return { key, size, etag: ETag ?? '', lastModified }
}

/** @throws InvalidRangeError for what S3 would take for no range at all */
function rangeHeader(range?: ByteRange): string | undefined {
  if (!range) return undefined
  resolveRange(Number.MAX_SAFE_INTEGER, range)
  return `bytes=${range.start}-${range.end ?? ''}`
}

/** `bytes 0-9/200` -> 200 */
const totalSize = (contentRange: string) => Number(contentRange.slice(contentRange.lastIndexOf('/') + 1))

const decodeKey = (encoded: string) => decodeURIComponent(encoded.replaceAll('+', ' '))
