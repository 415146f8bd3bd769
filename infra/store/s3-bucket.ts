import {
  DeleteObjectCommand,
  GetObjectCommand,
  type GetObjectCommandOutput,
  HeadObjectCommand,
  type HeadObjectCommandOutput,
  ListObjectsV2Command,
} from '@aws-sdk/client-s3'
import { assertKey } from './key.ts'
import { type ByteRange, InvalidRangeError, resolveRange } from './range.ts'
import { receivedBody } from './s3-body.ts'
import { isMissingObject, isUnnamedRefusal, S3RequestError, s3Fault, storeError } from './s3-errors.ts'
import { type PutTarget, putObject } from './s3-put.ts'
import type { ListOptions, ListPage, ObjectInfo, ObjectStore, PutOptions, StoredObject } from './store.ts'

/** Connection that the buckets of one server share. */
export interface S3Connection extends Pick<PutTarget, 'client' | 'uploads' | 'partBytes'> {
  /** `S3 at http://127.0.0.1:7070`, for messages. */
  server: string
  /** Time that a read may wait for the next bytes, ms. */
  stallMs: number
}

const maxListLimit = 1000

/** The object store in one bucket. */
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
    assertKey(key)
    const target = {
      ...this.#connection,
      bucket: this.#bucket,
      head: (key: string) => this.#head(key),
      toError: this.#toError,
    }
    return putObject(target, key, typeof body === 'string' ? new TextEncoder().encode(body) : body, options)
  }

  async get(key: string, range?: ByteRange): Promise<StoredObject | undefined> {
    assertKey(key)
    const found = await this.#get(key, rangeHeader(range))
    if (!found) return undefined
    return {
      ...infoOf(key, found, range ? totalSize(found.ContentRange!) : found.ContentLength!),
      contentType: found.ContentType ?? 'application/octet-stream',
      body: receivedBody(found.Body!.transformToWebStream(), {
        toError: this.#toError,
        stallMs: this.#connection.stallMs,
      }),
    }
  }

  async head(key: string): Promise<ObjectInfo | undefined> {
    assertKey(key)
    const found = await this.#head(key)
    return found && infoOf(key, found, found.ContentLength!)
  }

  async delete(key: string): Promise<void> {
    assertKey(key)
    try {
      await this.#connection.client.send(new DeleteObjectCommand({ Bucket: this.#bucket, Key: key }))
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
    const page = await this.#connection.client.send(command).catch((error) => {
      throw this.#toError(error)
    })
    // Some servers ignore it.
    const keyOf = page.EncodingType === 'url' ? decodeKey : (key: string) => key
    const objects = (page.Contents ?? []).map((object) => infoOf(keyOf(object.Key!), object, object.Size!))
    return page.NextContinuationToken ? { objects, continuation: page.NextContinuationToken } : { objects }
  }

  async close(): Promise<void> {}

  async #get(key: string, Range?: string): Promise<GetObjectCommandOutput | undefined> {
    try {
      const found = await this.#connection.client.send(
        new GetObjectCommand({ Bucket: this.#bucket, Key: key, Range }),
      )
      if (!Range || found.ContentRange) return found
    } catch (error) {
      const fault = s3Fault(error)
      if (isMissingObject(fault)) return undefined
      if (fault.status === 416)
        throw new InvalidRangeError(`The range ${Range} is not in the object "${key}".`, { cause: error })
      throw this.#toError(error)
    }
    throw new S3RequestError(`${this.#connection.server} does not read ranges. Use a server that does.`)
  }

  async #head(key: string): Promise<HeadObjectCommandOutput | undefined> {
    try {
      return await this.#connection.client.send(new HeadObjectCommand({ Bucket: this.#bucket, Key: key }))
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
    try {
      const { Body } = await this.#connection.client.send(
        new GetObjectCommand({ Bucket: this.#bucket, Key: key }),
      )
      await Body?.transformToWebStream().cancel()
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

  readonly #toError = (error: unknown) =>
    storeError(error, { server: this.#connection.server, bucket: this.#bucket })
}

function infoOf(
  key: string,
  { ETag, LastModified }: { ETag?: string; LastModified?: Date },
  size: number,
): ObjectInfo {
  // Headers have whole seconds, listings may have more.
  const lastModified = Math.floor(LastModified!.getTime() / 1000) * 1000
  return { key, size, etag: ETag!, lastModified }
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
