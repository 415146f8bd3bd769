import { InvalidKeyError } from '../../../infra/store/key.ts'
import { BucketUnavailableError } from '../../../infra/store/store.ts'
import { maxBodyBytes } from '../../contract/caption.ts'
import { TurbineError } from '../../contract/errors.ts'
import { decodeDataUrl } from '../../contract/image.ts'
import { assertGranted, type Tenant } from '../../contract/tenant.ts'
import type { EdgeDeps } from '../../deps.ts'

export interface ImageAsk {
  /** Who asks: an `s3://` address must lie where it may read. */
  tenant: Tenant
  signal: AbortSignal
}

type ImageDeps = Pick<EdgeDeps, 'fetchImage' | 'buckets'>

/**
 * The bytes that an `image_url` holds (`data:`) or names (`https:`, `http:`, `s3:`), at most `maxBodyBytes`.
 * @throws TurbineError `image_url_*`, `image_not_found`, `image_forbidden`, `s3_uri_invalid`, `s3_not_granted`,
 * `s3_unavailable`; StoreUnavailableError
 */
export async function imageAt(url: string, ask: ImageAsk, deps: ImageDeps): Promise<Uint8Array> {
  const scheme = /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1]?.toLowerCase()
  switch (scheme) {
    case 'data':
      return decodeDataUrl(url)
    case 's3':
      return imageInBucket(url, ask.tenant, deps)
    case 'https':
    case 'http':
      return imageOnWeb(url, ask.signal, deps)
    default:
      throw atFault('image_url_invalid', '"image_url" must start with https://, data: or s3://.')
  }
}

async function imageOnWeb(url: string, signal: AbortSignal, { fetchImage }: ImageDeps): Promise<Uint8Array> {
  try {
    return await fetchImage(url, { maxBytes: maxBodyBytes, signal })
  } catch (error) {
    throw fetchFault(error) ?? error
  }
}

/** The caller's side of a failed fetch: the fetcher names those faults `image_url_*`. */
function fetchFault(error: unknown): TurbineError | undefined {
  if (!(error instanceof Error) || !('code' in error)) return undefined
  const { code, message } = error
  if (typeof code !== 'string' || !code.startsWith('image_url_')) return undefined
  const retriable = 'retriable' in error && error.retriable === true
  return new TurbineError(message, { status: 400, code, param: 'image_url', retriable, cause: error })
}

async function imageInBucket(url: string, tenant: Tenant, { buckets }: ImageDeps): Promise<Uint8Array> {
  const { bucket, key } = assertGranted(tenant, 'read', url, 'image_url')
  if (!buckets) throw s3Unavailable('image_url')
  const object = await buckets(bucket)
    .get(key)
    .catch((error) => {
      throw bucketFault(error, bucket)
    })
  if (!object) throw atFault('image_url_not_found', `There is no object at ${url.slice(0, 200)}.`)
  if (object.size <= maxBodyBytes) return new Uint8Array(await new Response(object.body).arrayBuffer())
  await object.body.cancel()
  throw atFault(
    'image_url_too_large',
    `The image has ${object.size} bytes; at most ${maxBodyBytes} are accepted. Scale it down or compress it.`,
  )
}

/** The caller's side of a failed read: a bucket that is not there or closed does not come back by a repeat. */
function bucketFault(error: unknown, bucket: string): unknown {
  if (error instanceof InvalidKeyError) return atFault('s3_uri_invalid', error.message, error)
  if (!(error instanceof BucketUnavailableError)) return error
  return error.fault === 'missing'
    ? atFault(
        'image_not_found',
        `The service's S3 has no bucket "${bucket}". Create it there, or name an image in another bucket.`,
        error,
      )
    : atFault(
        'image_forbidden',
        `The service may not read the bucket "${bucket}". Allow its S3 user to read there, or name an image in another bucket.`,
        error,
      )
}

/** Where the service runs without S3. */
export const s3Unavailable = (param: string) =>
  new TurbineError(
    'This service reads and writes no s3:// addresses. Ask its operator to set S3_ENDPOINT, or send the data itself.',
    { status: 400, code: 's3_unavailable', param },
  )

const atFault = (code: string, message: string, cause?: unknown) =>
  new TurbineError(message, { status: 400, code, param: 'image_url', cause })
