import {
  type HeadObjectCommandOutput,
  PutObjectCommand,
  type PutObjectCommandOutput,
  type S3Client,
} from '@aws-sdk/client-s3'
import { Upload } from '@aws-sdk/lib-storage'
import { retry } from '../retry.ts'
import { sentBody } from './s3-body.ts'
import type { DirectPut } from './s3-direct.ts'
import { isMissingObject, S3RequestError, s3Fault } from './s3-errors.ts'
import { PreconditionFailedError, type PutOptions, StoreUnavailableError } from './store.ts'

/** Bucket and connections of a put. */
export interface PutTarget {
  bucket: string
  /** Sends within a time limit. */
  send(command: PutObjectCommand): Promise<PutObjectCommandOutput>
  /** A first attempt of bytes; undefined: use `send`. */
  direct?(put: Pick<DirectPut, 'bytes' | 'headers'>): Promise<string | undefined>
  /** Has a longer request timeout, for large parts and for completing uploads. */
  uploads: S3Client
  /** Bytes of one part of a stream, 5 MiB at least. */
  partBytes: number
  /** @throws the error of the store */
  head(key: string): Promise<HeadObjectCommandOutput | undefined>
  toError(error: unknown): Error
}

/** S3's own limit. */
const maxParts = 10_000
/** Parts of one stream that are sent at once. */
const partsInFlight = 2
/** Maximum attempts for bytes that lose races against other writers. */
const maxTries = 4
const pauseMs = 50

/** Fields that all requests of one put share. */
interface PutRequest {
  Bucket: string
  Key: string
  ContentType: string
  IfNoneMatch: '*' | undefined
  IfMatch: string | undefined
  Metadata: { 'put-id': string }
}

/**
 * Puts an object: bytes in one request, a stream in parts of which a few are in memory. Metadata mark each put, so that
 * a writer recognises its own object.
 * @throws PreconditionFailedError; what the body failed with; the error of the store
 */
export async function putObject(
  target: PutTarget,
  key: string,
  body: Uint8Array | ReadableStream<Uint8Array>,
  { contentType = 'application/octet-stream', ifNoneMatch, ifMatch }: PutOptions = {},
): Promise<{ etag: string }> {
  const request: PutRequest = {
    Bucket: target.bucket,
    Key: key,
    ContentType: contentType,
    IfNoneMatch: ifNoneMatch,
    IfMatch: ifMatch,
    Metadata: { 'put-id': crypto.randomUUID() },
  }
  const put = body instanceof ReadableStream ? putStream : putBytes
  return { etag: await put(target, request, body as Uint8Array & ReadableStream<Uint8Array>) }
}

/** More takes longer than a plain request may. */
const maxDirectBytes = 1024 * 1024

async function putBytes(target: PutTarget, request: PutRequest, bytes: Uint8Array): Promise<string> {
  if (target.direct && bytes.length <= maxDirectBytes) {
    const etag = await target.direct({ bytes, headers: headersOf(request) })
    if (etag) return etag
  }
  const send = () => target.send(new PutObjectCommand({ ...request, Body: bytes }))
  return retry(() => etagOf(target, request, send()), {
    tries: maxTries,
    retriable: (error) => error instanceof LostRaceError,
    pauseMs: (failures) => pauseMs * failures,
  })
}

const headersOf = ({ ContentType, IfNoneMatch, IfMatch, Metadata }: PutRequest) => ({
  'content-type': ContentType,
  'x-amz-meta-put-id': Metadata['put-id'],
  ...(IfNoneMatch !== undefined && { 'if-none-match': IfNoneMatch }),
  ...(IfMatch !== undefined && { 'if-match': IfMatch }),
})

async function putStream(
  target: PutTarget,
  request: PutRequest,
  body: ReadableStream<Uint8Array>,
): Promise<string> {
  const maxBytes = target.partBytes * maxParts
  const source = sentBody(body, { maxBytes, tooLarge: () => tooLarge(request, maxBytes) })
  try {
    // Before anything is sent, because S3 refuses a stream only when all of it is there.
    if (isConditional(request)) assertPrecondition(request, await target.head(request.Key))
    return await upload(target, request, source.stream)
  } catch (error) {
    await source.cancel(error)
    throw source.failure ? source.failure.error : error
  }
}

async function upload(
  target: PutTarget,
  request: PutRequest,
  stream: ReadableStream<Uint8Array>,
): Promise<string> {
  const { uploads: client, partBytes: partSize } = target
  const params = { ...request, Body: stream }
  const uploaded = new Upload({ client, params, partSize, queueSize: partsInFlight }).done()
  return etagOf(target, request, uploaded)
}

/**
 * Gets the etag of a put. A failed put counts too when S3 had stored it and only the response was lost, so that the
 * SDK's retry met the object of its first attempt.
 * @throws LostRaceError, PreconditionFailedError; the error of the store
 */
async function etagOf(
  target: PutTarget,
  request: PutRequest,
  put: Promise<{ ETag?: string }>,
): Promise<string> {
  try {
    return (await put).ETag!
  } catch (cause) {
    if (!isRefusal(request, cause)) throw target.toError(cause)
    const object = await target.head(request.Key)
    if (object?.Metadata?.['put-id'] === request.Metadata['put-id']) return object.ETag!
    assertPrecondition(request, object)
    throw new LostRaceError(`Conflict with other writers of the object "${request.Key}". Put it again.`, {
      cause,
    })
  }
}

const isConditional = ({ IfNoneMatch, IfMatch }: PutRequest) =>
  IfNoneMatch !== undefined || IfMatch !== undefined

const refusalCodes = new Set(['ConditionalRequestConflict', 'NoSuchUpload'])

/** Recognises a failed precondition, a concurrent writer, and an upload that was completed already. */
function isRefusal(request: PutRequest, error: unknown): boolean {
  const fault = s3Fault(error)
  if (refusalCodes.has(fault.code) || fault.status === 412) return true
  return request.IfMatch !== undefined && isMissingObject(fault)
}

function assertPrecondition({ Key, IfNoneMatch, IfMatch }: PutRequest, object?: { ETag?: string }): void {
  if (IfNoneMatch !== undefined && object)
    throw new PreconditionFailedError(`The object "${Key}" exists already.`)
  if (IfMatch !== undefined && object?.ETag !== IfMatch)
    throw new PreconditionFailedError(`The object "${Key}" has changed. Read it again before writing.`)
}

/** Conflict with a concurrent writer; the put can be retried. */
class LostRaceError extends StoreUnavailableError {}

const tooLarge = ({ Key }: PutRequest, maxBytes: number) =>
  new S3RequestError(`The object "${Key}" has more than ${maxBytes} bytes. Put it as several objects.`)
