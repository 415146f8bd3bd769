import { BaseError, excerpt } from '../errors.ts'
import { InvalidKeyError } from './key.ts'
import { BucketUnavailableError, StoreUnavailableError } from './store.ts'

/** Request that S3 refuses, and would refuse again. */
export class S3RequestError extends BaseError {}

/** Target of a request, for messages. */
export interface S3Place {
  /** `S3 at http://127.0.0.1:7070` */
  server: string
  bucket: string
}

/** Code and status of an error of the SDK. */
export interface S3Fault {
  /** S3's code, e.g. `NoSuchKey`, or that of the connection, e.g. `ECONNREFUSED`. */
  code: string
  /** Of the HTTP response; undefined without one. */
  status: number | undefined
}

interface SdkError {
  name?: string
  code?: unknown
  message?: string
  $metadata?: { httpStatusCode?: number }
}

export function s3Fault(error: unknown): S3Fault {
  const { name, code, message, $metadata } = error as SdkError
  const status = $metadata?.httpStatusCode
  // Connection errors have Node's `code`; workerd has only a message.
  const named = typeof code === 'string' ? code : name
  return { status, code: named && named !== 'Error' ? named : (message ?? 'no code') }
}

const missingObjectCodes = new Set(['NoSuchKey', 'NotFound'])

/**
 * Recognises a missing object by S3's own code: servers use 404 for other reasons too. HEAD has no code, so `NotFound`
 * can be the bucket as well.
 */
export const isMissingObject = ({ code }: S3Fault) => missingObjectCodes.has(code)

const missingBucketCodes = new Set(['NoSuchBucket', 'InvalidBucketName'])

/** Codes of a bucket in another region, or at another address. */
const elsewhereCodes = new Set([
  'AuthorizationHeaderMalformed',
  'IllegalLocationConstraintException',
  'PermanentRedirect',
])

/**
 * Recognises a refused HEAD, which has no code: only a GET shows whether the bucket is closed or the credentials are
 * wrong.
 */
export const isUnnamedRefusal = ({ code, status = 0 }: S3Fault) =>
  code === 'Unknown' && (status === 400 || refusedStatuses.has(status))

const refusedStatuses = new Set([301, 401, 403])
/** Codes of wrong credentials whose status says less. */
const refusedCodes = new Set([
  'CredentialsProviderError',
  'ExpiredToken',
  'InvalidToken',
  // What versitygw calls an unknown access key.
  'XAdminUserNotFound',
])

/** Recognises codes of one object that is archived, or whose key cannot be used: its bucket works. */
const isObjectCode = (code: string) => code === 'InvalidObjectState' || code.startsWith('KMS.')

/** Transient, besides all of 5xx. */
const transientStatuses = new Set([408, 429])
const transientCodes = new Set([
  'BadDigest',
  'ConditionalRequestConflict',
  'IncompleteBody',
  'OperationAborted',
  'RequestTimeout',
])

/** Translates an error of the SDK into one of the store's, with the remedy. */
export function storeError(
  error: unknown,
  { server, bucket }: S3Place,
): StoreUnavailableError | S3RequestError | InvalidKeyError {
  const { code, status } = s3Fault(error)
  const cause = { cause: error }
  const bucketError = (fault: BucketUnavailableError['fault'], message: string) =>
    new BucketUnavailableError(fault, `${server} ${message}`, cause)
  const unavailable = (message: string) => new StoreUnavailableError(`${server} ${message}`, cause)

  if (code === 'KeyTooLongError')
    return new InvalidKeyError(`The object key is too long for ${server}. Use a shorter key.`)
  if (missingBucketCodes.has(code))
    return bucketError(
      'missing',
      `has no bucket "${bucket}". Create it, or name another one (S3_BUCKET for the service's own).`,
    )
  if (code === 'AccessDenied')
    return bucketError(
      'forbidden',
      `denies access to the bucket "${bucket}". Allow the key to list, read, write and delete there.`,
    )
  if (elsewhereCodes.has(code))
    return bucketError(
      'missing',
      `does not serve the bucket "${bucket}" (${code}): it is in another region or at another server. Check AWS_REGION and S3_ENDPOINT, or name another bucket.`,
    )
  if (isObjectCode(code)) return refused(error, { server, bucket })
  if (refusedStatuses.has(status ?? 0) || refusedCodes.has(code))
    return unavailable(
      `refuses access to the bucket "${bucket}" (${code}). Check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION.`,
    )
  if (status === undefined)
    return unavailable(`cannot be reached (${code}). Check S3_ENDPOINT, and that the server runs.`)
  if (status >= 500 || transientStatuses.has(status) || transientCodes.has(code))
    return unavailable(`cannot serve now (${status} ${code}). Look at its health if this lasts.`)
  return refused(error, { server, bucket })
}

function refused(error: unknown, { server, bucket }: S3Place): S3RequestError {
  const message = `${server} refused a request to the bucket "${bucket}": ${s3Answer(error)}: ${(error as Error).message}`
  return new S3RequestError(message, { cause: error })
}

/**
 * What S3 answered, without where it is, which is not for callers: `403 InvalidObjectState`.
 * @param error of the SDK, or one of the store with it as its cause
 */
export function s3Answer(error: unknown): string {
  if (error instanceof BaseError && error.cause === undefined) return error.name
  const { status, code } = s3Fault(error instanceof BaseError ? error.cause : error)
  // What is no XML has a parser's message in place of a code.
  const name = excerpt(code)
  return status === undefined ? name : `${status} ${name}`
}
