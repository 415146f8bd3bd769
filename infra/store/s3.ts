import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { S3Bucket } from './s3-bucket.ts'
import type { Buckets } from './store.ts'

export interface S3Options {
  /** For servers other than AWS; buckets are part of the path then, not of the host name. */
  endpoint?: string
  region: string
  /** Both or none; without them the SDK's credential chain applies: environment, profile, the machine's role. */
  accessKeyId?: string
  secretAccessKey?: string
  /** Timeout of a request, ms; default 10,000. */
  requestMs?: number
  /** Maximum attempts of a request with transient errors; default 3. */
  attempts?: number
  /** Time that a read may wait for the next bytes, ms; default 30,000. */
  stallMs?: number
  /**
   * Streams go up in parts of this size, two at a time; 5 MiB at least, and 10,000 parts are the largest object. Each
   * stream takes about four parts of memory. Default 8 MiB: objects up to 80 GiB.
   */
  partBytes?: number
}

export interface S3 {
  /** Store in a bucket; closing it does nothing. */
  bucket: Buckets
  /** Ends the connections. */
  close(): void
}

/** Default bytes of a part. */
const defaultPartBytes = 8 * 1024 * 1024

/** Memory that the put of a stream takes at most, bytes: parts on their way, and one that is being filled. */
export const uploadBytes = (partBytes = defaultPartBytes) => 3 * partBytes

const connectMs = 2000
const uploadRequestMs = 60_000
/** Enough that no request waits for a socket, since that counts against the connection timeout. */
const maxSockets = 1000

/**
 * Object stores in the buckets of an S3 server. Runs in Node and in workerd, where a bundle has to name the parser of
 * XML that needs no DOM: `@aws-sdk/xml-builder` is to be `@aws-sdk/xml-builder/dist-cjs/index.js`.
 *
 * @example
 * const s3 = openS3({ endpoint: 'http://127.0.0.1:7070', region: 'us-east-1', accessKeyId, secretAccessKey })
 * await s3.bucket('turbine').put('a/b', 'text')
 */
export function openS3(options: S3Options): S3 {
  const { endpoint, region, requestMs = 10_000, stallMs = 30_000, partBytes = defaultPartBytes } = options
  const client = new S3Client(clientConfig(options, requestMs))
  const uploads = new S3Client(clientConfig(options, Math.max(requestMs, uploadRequestMs)))
  const server = endpoint ? `S3 at ${endpoint}` : `S3 in ${region}`
  return {
    bucket: (name) => new S3Bucket(name, { client, uploads, server, partBytes, stallMs }),
    close() {
      client.destroy()
      uploads.destroy()
    },
  }
}

function clientConfig(options: S3Options, requestTimeout: number): S3ClientConfig {
  const { endpoint, region, accessKeyId, secretAccessKey, attempts = 3 } = options
  const credentials = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : undefined
  return {
    region,
    ...(endpoint ? { endpoint, forcePathStyle: true } : { followRegionRedirects: true }),
    ...(credentials && { credentials }),
    maxAttempts: attempts,
    // The signature covers the bytes already, and not every server knows the newer checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout,
      throwOnRequestTimeout: true,
      httpAgent: { maxSockets },
      httpsAgent: { maxSockets },
      customFetch: retriableFetch,
    },
  }
}

/** `fetch` for the SDK in workerd, whose connection errors the SDK does not recognise as retriable. */
async function retriableFetch(request: Request): Promise<Response> {
  try {
    return await fetch(request)
  } catch (error) {
    throw Object.assign(error as Error, { $retryable: {} })
  }
}
