import { type Dispatcher, Pool } from 'undici'
import { encodeKey, type S3Credentials, S3Signer, type UnsignedRequest } from './s3-signature.ts'
import type { ReadOptions, WholeObject } from './store.ts'

export interface DirectS3Options {
  region: string
  /** Where a bucket is. @returns undefined for one that the SDK alone knows how to ask */
  addressOf(bucket: string): Promise<URL | undefined>
  credentials(): Promise<S3Credentials>
  /** Connections to one host at most. */
  sockets: number
  /** Time until a response begins, and in which its next bytes come, ms. */
  requestMs: number
  stallMs: number
  /** A connection without a request is kept for so long, ms. */
  idleMs: number
}

/** A plain put. */
export interface DirectPut {
  bucket: string
  key: string
  bytes: Uint8Array
  /** Names in lower case. */
  headers: Readonly<Record<string, string>>
}

const connectMs = 2_000
/** Unexpected answers in a row after which a bucket is left to the SDK for a while, ms. */
const maxMisses = 3
const leftMs = 60_000

/**
 * First attempts of the most frequent requests, a whole object in or out, for a quarter of the CPU time that the SDK takes.
 * Only what ends well ends here: everything else, as errors, redirects, retries, is undefined, and the SDK asks again.
 */
export class DirectS3 {
  readonly #options: DirectS3Options
  readonly #signer: S3Signer
  readonly #pools = new Map<string, Pool>()
  readonly #addresses = new Map<string, Promise<URL | undefined>>()
  readonly #misses = new Map<string, { count: number; until: number }>()

  constructor(options: DirectS3Options) {
    this.#options = options
    this.#signer = new S3Signer(options.region)
  }

  /** @throws the signal's reason; what `room` throws */
  async get(bucket: string, key: string, options: ReadOptions): Promise<WholeObject | 'none' | undefined> {
    return this.#attempt(bucket, { method: 'GET' }, key, (pool, request) => receive(pool, request, options))
  }

  /** @returns the etag */
  async put({ bucket, key, bytes, headers }: DirectPut): Promise<string | undefined> {
    const put = { method: 'PUT', headers, body: bytes } as const
    const stored = await this.#attempt(bucket, put, key, (pool, request) =>
      receive(pool, { ...request, body: bytes }, { maxBytes: 65_536 }),
    )
    return stored === 'none' ? undefined : stored?.etag
  }

  close(): void {
    for (const pool of this.#pools.values()) void pool.destroy()
    this.#pools.clear()
  }

  async #attempt(
    bucket: string,
    unsigned: Pick<UnsignedRequest, 'method' | 'headers' | 'body'>,
    key: string,
    send: (pool: Pool, request: Dispatcher.DispatchOptions) => Promise<WholeObject | Miss>,
  ): Promise<WholeObject | 'none' | undefined> {
    const misses = this.#misses.get(bucket)
    if (misses && misses.count >= maxMisses && misses.until > Date.now()) return undefined
    const address = await this.#addressOf(bucket)
    if (!address) return undefined
    const path = `${address.pathname.replace(/\/$/, '')}/${encodeKey(key)}`
    const request = { ...unsigned, host: address.host, path }
    const headers = this.#signer.sign(request, await this.#options.credentials())
    const answer = await send(this.#poolOf(address.origin), { method: unsigned.method, path, headers })
    if ('isMiss' in answer) {
      if (answer.isNone) return 'none'
      // That another writer was first says nothing of the bucket.
      if (answer.status !== 404 && answer.status !== 412)
        this.#misses.set(bucket, { count: (misses?.count ?? 0) + 1, until: Date.now() + leftMs })
      return undefined
    }
    if (misses) this.#misses.delete(bucket)
    return answer
  }

  #addressOf(bucket: string): Promise<URL | undefined> {
    const known = this.#addresses.get(bucket)
    if (known) return known
    const address = this.#options.addressOf(bucket).catch(() => undefined)
    this.#addresses.set(bucket, address)
    return address
  }

  #poolOf(origin: string): Pool {
    const { sockets, requestMs, stallMs, idleMs } = this.#options
    const known = this.#pools.get(origin)
    if (known) return known
    const pool = new Pool(origin, {
      connections: sockets,
      connect: { timeout: connectMs },
      headersTimeout: requestMs,
      bodyTimeout: stallMs,
      keepAliveTimeout: idleMs,
      keepAliveMaxTimeout: idleMs,
    })
    this.#pools.set(origin, pool)
    return pool
  }
}

/** An answer that is left to the SDK. */
interface Miss {
  isMiss: true
  status?: number
  /** S3 says that there is no such object, by its own code: servers use 404 for other reasons too. */
  isNone?: boolean
}

const maxErrorBytes = 16_384
const noSuchKey = /<Code>\s*NoSuchKey\s*<\/Code>/

/** Sends a request and reads the whole body of a good answer, whose size it knows before. */
function receive(
  pool: Pool,
  request: Dispatcher.DispatchOptions,
  { maxBytes, room, signal }: ReadOptions,
): Promise<WholeObject | Miss> {
  const { promise, resolve, reject } = Promise.withResolvers<WholeObject | Miss>()
  let body = new Uint8Array(0)
  let at = 0
  let isMissing = false
  let etag = ''
  let abort: (() => void) | undefined
  const settled = () => {
    if (abort) signal?.removeEventListener('abort', abort)
  }
  const miss = (status?: number) => {
    settled()
    resolve({ isMiss: true, status })
  }
  pool.dispatch(request, {
    onRequestStart(controller) {
      abort = () => {
        reject(signal!.reason)
        controller.abort(signal!.reason)
      }
      if (signal?.aborted) abort()
      else signal?.addEventListener('abort', abort, { once: true })
    },
    onResponseStart(controller, status, headers) {
      // What a put is answered with beside its etag is not read.
      const length = request.method === 'PUT' ? 0 : Number(headers['content-length'])
      isMissing = status === 404 && request.method === 'GET' && length <= maxErrorBytes
      const isPlain = (status === 200 || isMissing) && headers['content-encoding'] === undefined
      if (!isPlain || !(length <= maxBytes)) {
        miss(status)
        controller.abort(new Error('left to the SDK'))
        return
      }
      etag = String(headers.etag ?? '')
      body = new Uint8Array(length)
      if (!room || isMissing) return
      controller.pause()
      room(length).then(
        () => controller.resume(),
        (error) => {
          settled()
          reject(error)
          controller.abort(error)
        },
      )
    },
    onResponseData(_, chunk) {
      const part = chunk.subarray(0, body.length - at)
      body.set(part, at)
      at += part.length
    },
    onResponseEnd() {
      settled()
      if (isMissing)
        resolve({ isMiss: true, status: 404, isNone: noSuchKey.test(new TextDecoder().decode(body)) })
      else if (at === body.length) resolve({ bytes: body, etag })
      else miss()
    },
    onResponseError: () => miss(),
  })
  return promise
}
