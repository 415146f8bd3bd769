import { BaseError } from '../errors.ts'
import { InvalidKeyError } from './key.ts'
import { InvalidRangeError } from './range.ts'
import { S3RequestError, s3Answer } from './s3-errors.ts'
import { type Buckets, BucketUnavailableError, type ObjectStore, StoreUnavailableError } from './store.ts'

/** Byte range of an object in the service's own store, or in another bucket. */
export interface Slice {
  /** Another bucket; absent: the service's own store. */
  bucket?: string
  key: string
  /** First byte. */
  start: number
  /** Byte behind the last one. */
  end: number
}

/** Stores that slices are read from. */
export interface SliceStores {
  store: ObjectStore
  buckets?: Buckets
  /** Name of the bucket that `store` is in; no `s3://` address may name it. */
  ownBucket?: string
}

/** Object of a slice that is missing or too short, or that needs S3 where there is none. */
export class MissingSliceError extends BaseError {}

/** Object of a slice that its store will not give out, however often it is asked. */
export class RefusedSliceError extends MissingSliceError {}

/** Another bucket cannot give out a slice now, which says nothing of the service's own store. */
export class SliceUnavailableError extends StoreUnavailableError {}

export const sliceBytes = (slices: readonly Slice[]) =>
  slices.reduce((bytes, { start, end }) => bytes + end - start, 0)

/**
 * Cuts the bytes `[start, end)` out of concatenated slices.
 * @example cutSlices([{ key: 'a', start: 0, end: 10 }, { key: 'b', start: 5, end: 9 }], 8, 12)
 * // [{ key: 'a', start: 8, end: 10 }, { key: 'b', start: 5, end: 7 }]
 */
export function cutSlices(slices: readonly Slice[], start: number, end = sliceBytes(slices)): Slice[] {
  const cut: Slice[] = []
  let offset = 0
  for (const slice of slices) {
    const first = Math.max(start - offset, 0)
    const last = Math.min(end - offset, slice.end - slice.start)
    if (first < last) cut.push({ ...slice, start: slice.start + first, end: slice.start + last })
    offset += slice.end - slice.start
  }
  return cut
}

/**
 * Streams the bytes of the slices in order. Nothing is open before the first read, nor after `return`; that waits for
 * a read in progress, which the signal ends.
 * @throws MissingSliceError, RefusedSliceError; SliceUnavailableError when another bucket fails, StoreUnavailableError
 * when the service's own store does, also while it is read; the signal's reason
 */
export async function* readSlices(
  slices: readonly Slice[],
  { store, buckets }: SliceStores,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const slice of slices) {
    if (slice.start === slice.end) continue
    try {
      yield* await openSlice(slice, { store, buckets }, signal)
    } catch (error) {
      signal?.throwIfAborted()
      throw sliceError(error, slice)
    }
  }
}

async function openSlice(
  { bucket, key, start, end }: Slice,
  { store, buckets }: SliceStores,
  signal: AbortSignal | undefined,
) {
  const from = bucket === undefined ? store : buckets?.(bucket)
  const object = await from?.get(key, { start, end: end - 1 }, { signal })
  if (!object) throw new MissingSliceError(`There is no object ${nameOf({ bucket, key })}.`)
  // Stores cut off ranges that end beyond the object.
  if (object.size < end) {
    await object.body.cancel()
    throw new InvalidRangeError('The object is shorter.')
  }
  return object.body as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>
}

function sliceError(error: unknown, { bucket, key }: Slice): unknown {
  const name = nameOf({ bucket, key })
  const cause = { cause: error }
  if (error instanceof MissingSliceError) return error
  if (error instanceof InvalidRangeError)
    return new MissingSliceError(`The object ${name} has become shorter.`, cause)
  // The service's own store recovers, or its operator repairs it.
  if (bucket === undefined) return error
  if (error instanceof S3RequestError)
    return new RefusedSliceError(`S3 does not give out the object ${name}: ${s3Answer(error)}.`, cause)
  if (error instanceof InvalidKeyError) return new RefusedSliceError(error.message, cause)
  // A missing or closed bucket of a caller is permanent; the service's own store recovers.
  if (error instanceof BucketUnavailableError) return new MissingSliceError(error.message, cause)
  return new SliceUnavailableError(`S3 cannot deliver the object ${name} now: ${s3Answer(error)}.`, cause)
}

const nameOf = ({ bucket, key }: Pick<Slice, 'bucket' | 'key'>) => `"${key}"${bucket ? ` in ${bucket}` : ''}`
