import { BaseError } from '../errors.ts'
export interface ObjectInfo {
  key: string
  /** Bytes. */
  size: number
  /** Changes when the content does; opaque. */
  etag: string
  /** Unix ms. */
  lastModified: number
}

export interface StoredObject extends ObjectInfo {
  contentType: string
  /** As the object's `Content-Encoding` says; absent without one. */
  contentEncoding?: string
  /**
   * The object, or the requested range. It holds a connection or a file until it is read to the end or cancelled, or
   * until the signal of the read aborts.
   */
  body: ReadableStream<Uint8Array>
}

export interface GetOptions {
  /** Ends the read, also that of the body, with the signal's reason. */
  signal?: AbortSignal
}

export interface ReadOptions extends GetOptions {
  /** Larger objects are not read. */
  maxBytes: number
  /** Waits for memory for the object, before its bytes are taken. */
  room?(bytes: number): Promise<void>
}

/** A whole object in memory. */
export interface WholeObject {
  bytes: Uint8Array<ArrayBuffer>
  etag: string
}

export interface PutOptions {
  contentType?: string
  /** `'*'`: only if there is no such object yet. */
  ifNoneMatch?: '*'
  /** Only if the object still has this etag. */
  ifMatch?: string
}

export interface ListOptions {
  /** At most this many; default 1000, the highest value too. */
  limit?: number
  /** `continuation` of the page before. */
  continuation?: string
  /** Only keys that sort after this one. */
  startAfter?: string
}

export interface ListPage {
  /** In ascending order of the key's UTF-8 bytes. */
  objects: ObjectInfo[]
  /** Set when there is more. */
  continuation?: string
}

/**
 * The object store: whole objects by key, written atomically (a reader sees the old object or the new one,
 * never a part). Keys are 1 to 1024 bytes of UTF-8, separated by `/`, without empty, `.` or `..` segments; in S3, whose
 * buckets can be others' too, with any. Implemented by a directory on one machine and by S3 in a fleet.
 */
export interface ObjectStore {
  /** @throws PreconditionFailedError when `ifNoneMatch` or `ifMatch` does not hold; nothing is written then. */
  put(
    key: string,
    body: Uint8Array | string | ReadableStream<Uint8Array>,
    options?: PutOptions,
  ): Promise<{ etag: string }>
  /** `range` is in bytes, both ends included, as in HTTP; the end may be left out. Undefined when there is no such object. */
  get(
    key: string,
    range?: { start: number; end?: number },
    options?: GetOptions,
  ): Promise<StoredObject | undefined>
  /**
   * Reads a whole object, as stored and without a `Content-Encoding`, where that takes less than `get`; `none` when there is none.
   * Undefined says nothing: use `get`.
   */
  read?(key: string, options: ReadOptions): Promise<WholeObject | 'none' | undefined>
  head(key: string): Promise<ObjectInfo | undefined>
  delete(key: string): Promise<void>
  list(prefix: string, options?: ListOptions): Promise<ListPage>
  close(): Promise<void>
}

/** Opens a bucket with the service's own credentials: check the caller's grants first. */
export type Buckets = (bucket: string) => ObjectStore

export class PreconditionFailedError extends BaseError {}

/** The store cannot be reached, or cannot serve now. */
export class StoreUnavailableError extends BaseError {
  // Subclasses keep it: logs name an outage of the store by it.
  override readonly name = 'StoreUnavailableError'
  override readonly retriable = true
}

/** The bucket is missing or denies access; others on the same server may work. */
export class BucketUnavailableError extends StoreUnavailableError {
  readonly fault: 'missing' | 'forbidden'

  constructor(fault: 'missing' | 'forbidden', message: string, options: ErrorOptions) {
    super(message, options)
    this.fault = fault
  }
}

/** Object of the service's own that is not what it should be; only an operator can repair it. */
export class DamagedObjectError extends BaseError {}

/** Maximum bytes of an object that is read at once, without a stream. */
const maxReadBytes = 64 * 1024 * 1024
/** Maximum bytes of an object that is read as JSON. */
export const maxJsonBytes = 32 * 1024 * 1024

/** Reads a whole object, with one copy; undefined when there is none. */
export async function getBytes(
  store: Pick<ObjectStore, 'get' | 'read'>,
  key: string,
): Promise<Uint8Array | undefined> {
  const whole = await store.read?.(key, { maxBytes: maxReadBytes })
  if (whole) return whole === 'none' ? undefined : whole.bytes
  const object = await store.get(key)
  if (!object) return undefined
  const bytes = new Uint8Array(object.size)
  let at = 0
  for await (const chunk of object.body) {
    bytes.set(chunk, at)
    at += chunk.byteLength
  }
  return bytes
}

/**
 * Reads a whole object as JSON; undefined when there is none.
 * @throws DamagedObjectError, StoreUnavailableError
 */
export async function getJson<T>(
  store: Pick<ObjectStore, 'get' | 'read'>,
  key: string,
): Promise<T | undefined> {
  const whole = await store.read?.(key, { maxBytes: maxJsonBytes })
  if (whole) return whole === 'none' ? undefined : parseWhole<T>(key, whole)
  const object = await store.get(key)
  return object && parseObject<T>(object)
}

/** @throws DamagedObjectError when it is not JSON, or too large */
export async function parseObject<T>({ key, size, body }: StoredObject): Promise<T> {
  if (size > maxJsonBytes) {
    await body.cancel()
    throw new DamagedObjectError(`The object "${key}" has ${size} bytes, which cannot be.`)
  }
  return parsed(key, await new Response(body).text())
}

/** @throws DamagedObjectError */
export const parseWhole = <T>(key: string, { bytes }: WholeObject): T =>
  parsed(key, new TextDecoder().decode(bytes))

function parsed<T>(key: string, text: string): T {
  try {
    return JSON.parse(text) as T
  } catch (cause) {
    throw new DamagedObjectError(`The object "${key}" is not JSON.`, { cause })
  }
}

/** All pages of a store's listing. */
export async function* listPages(
  store: Pick<ObjectStore, 'list'>,
  prefix: string,
  options: Omit<ListOptions, 'continuation'> = {},
): AsyncGenerator<ObjectInfo[]> {
  let continuation: string | undefined
  do {
    const page = await store.list(prefix, { ...options, continuation })
    yield page.objects
    continuation = page.continuation
  } while (continuation !== undefined)
}
