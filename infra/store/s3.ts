import { S3Client, type S3ClientConfig } from '@aws-sdk/client-s3'
import { type DirectAttempts, S3Bucket, type S3Connection } from './s3-bucket.ts'
import type { DirectS3Options } from './s3-direct.ts'
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
  /**
   * Timeout of a request with all its attempts and, but for reads, the body of the response, ms. Default: what the
   * attempts take at most.
   */
  totalMs?: number
  /** Time that a read may wait for the next bytes, ms; default 30,000. */
  stallMs?: number
  /**
   * Streams go up in parts of this size, two at a time; 5 MiB at least, and 10,000 parts are the largest object. Each
   * stream takes about four parts of memory. Default 8 MiB: objects up to 80 GiB.
   */
  partBytes?: number
  /** Maximum concurrent reads from `downloads`; default 256. */
  downloads?: number
  /** A connection without a request is kept for so long, ms; default 10,000. */
  idleMs?: number
  /** Makes first attempts of whole objects, on Node: `(options) => new DirectS3(options)`. Default: the SDK does. */
  direct?(options: DirectS3Options): DirectAttempts
}

/** Stores in the buckets of a server, with connections of their own for each use; closing a store does nothing. */
export interface S3 {
  /** For what the service keeps: nothing else can take these connections. */
  own: Buckets
  /** For what callers name, e.g. their images. */
  bucket: Buckets
  /** For what callers download at their own pace. Only for reading. */
  downloads: Buckets
  /** Ends the connections. */
  close(): void
}

/** Default bytes of a part. */
const defaultPartBytes = 8 * 1024 * 1024

/** Memory that the put of a stream takes at most, bytes: parts on their way, and one that is being filled. */
export const uploadBytes = (partBytes = defaultPartBytes) => 3 * partBytes

const connectMs = 2000
const uploadRequestMs = 60_000
/**
 * Connections of a pool to one host: enough that no request waits for one, since that counts against the connection
 * timeout.
 */
const maxSockets = { own: 1000, others: 256, downloads: 256 }

/**
 * Object stores in the buckets of an S3 server. Runs in Node and in workerd, where a bundle has to name the parser of
 * XML that needs no DOM: `@aws-sdk/xml-builder` is to be `@aws-sdk/xml-builder/dist-cjs/index.js`.
 *
 * @example
 * const s3 = openS3({ endpoint: 'http://127.0.0.1:7070', region: 'us-east-1', accessKeyId, secretAccessKey })
 * await s3.own('turbine').put('a/b', 'text')
 */
export function openS3(options: S3Options): S3 {
  const { downloads = maxSockets.downloads } = options
  const pools = [maxSockets.own, maxSockets.others, downloads].map((sockets) => new S3Pool(options, sockets))
  const [own, bucket, read] = pools.map(
    (pool): Buckets =>
      (name) =>
        new S3Bucket(name, pool),
  )
  return {
    own: own!,
    bucket: bucket!,
    downloads: read!,
    close: () => {
      for (const pool of pools) pool.close()
    },
  }
}

/** Clients that share nothing with those of other pools. They open connections as they need them. */
class S3Pool implements S3Connection {
  readonly client: S3Client
  readonly uploads: S3Client
  readonly server: string
  readonly direct: DirectAttempts | undefined
  readonly partBytes: number
  readonly stallMs: number
  readonly totalMs: number

  constructor(options: S3Options, sockets: number) {
    const { endpoint, region, requestMs = 10_000, stallMs = 30_000, attempts = defaultAttempts } = options
    const { idleMs = defaultIdleMs } = options
    const uploadMs = Math.max(requestMs, uploadRequestMs)
    this.client = new S3Client(clientConfig(options, { requestMs, sockets }))
    // It never reads large bodies, so silence is a stalled connection.
    this.uploads = new S3Client(clientConfig(options, { requestMs: uploadMs, silenceMs: uploadMs, sockets }))
    this.direct = options.direct?.({
      ...{ region, sockets, requestMs, stallMs, idleMs },
      addressOf: (bucket) => addressOf(this.client, bucket),
      credentials: () => this.client.config.credentials(),
    })
    this.server = endpoint ? `S3 at ${endpoint}` : `S3 in ${region}`
    this.partBytes = options.partBytes ?? defaultPartBytes
    this.stallMs = stallMs
    this.totalMs = options.totalMs ?? attempts * (connectMs + requestMs) + pausesMs
  }

  close(): void {
    this.direct?.close()
    this.client.destroy()
    this.uploads.destroy()
  }
}

const defaultAttempts = 3
const defaultIdleMs = 10_000
/** Pauses of the SDK between the attempts of a request at most, ms. */
const pausesMs = 5_000

/** Where the SDK finds a bucket; undefined for kinds of buckets with requests of their own. */
export async function addressOf({ config }: S3Client, bucket: string): Promise<URL | undefined> {
  if (bucket.endsWith('--x-s3') || process.env.AWS_ENDPOINT_URL || process.env.AWS_ENDPOINT_URL_S3)
    return undefined
  const { protocol, hostname, port, path } = (await config.endpoint?.()) ?? {}
  const own = hostname && `${protocol}//${hostname}${port ? `:${port}` : ''}${path}`
  const { url } = config.endpointProvider({
    Bucket: bucket,
    Region: await config.region(),
    ...(own && { Endpoint: own, ForcePathStyle: true }),
    UseFIPS: await config.useFipsEndpoint(),
    UseDualStack: await config.useDualstackEndpoint(),
  })
  return url
}

interface ClientLimits {
  requestMs: number
  /** Time without a byte, ms. */
  silenceMs?: number
  sockets: number
}

function clientConfig(
  {
    endpoint,
    region,
    accessKeyId,
    secretAccessKey,
    attempts = defaultAttempts,
    idleMs = defaultIdleMs,
  }: S3Options,
  { requestMs, silenceMs, sockets }: ClientLimits,
): S3ClientConfig {
  const credentials = accessKeyId && secretAccessKey ? { accessKeyId, secretAccessKey } : undefined
  // Node's agent heeds the timeout while a connection is idle only: servers need not end it after a burst.
  const agent = { keepAlive: true, maxSockets: sockets, timeout: idleMs }
  return {
    region,
    ...(endpoint ? { endpoint, forcePathStyle: true } : { followRegionRedirects: true }),
    ...(credentials && { credentials }),
    maxAttempts: attempts,
    // The signature covers the bytes already, and not every server knows the newer checksums.
    requestChecksumCalculation: 'WHEN_REQUIRED',
    responseChecksumValidation: 'WHEN_REQUIRED',
    // The SDK sends requests with this header outside of the pool.
    expectContinueHeader: false,
    requestHandler: {
      connectionTimeout: connectMs,
      requestTimeout: requestMs,
      throwOnRequestTimeout: true,
      socketTimeout: silenceMs,
      httpAgent: agent,
      httpsAgent: agent,
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
