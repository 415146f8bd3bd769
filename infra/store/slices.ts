import { BaseError } from '../errors.ts'
import { InvalidRangeError } from './range.ts'
import { type Buckets, BucketUnavailableError, type ObjectStore } from './store.ts'

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
 * @throws MissingSliceError, StoreUnavailableError while it is read; the signal's reason
 */
export async function* readSlices(
  slices: readonly Slice[],
  { store, buckets }: SliceStores,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array> {
  for (const { bucket, key, start, end } of slices) {
    if (start === end) continue
    const from = bucket === undefined ? store : buckets?.(bucket)
    const name = `"${key}"${bucket ? ` in ${bucket}` : ''}`
    const range = { start, end: end - 1 }
    const object = await from?.get(key, range, { signal }).catch((error: unknown): never => {
      if (error instanceof InvalidRangeError)
        throw new MissingSliceError(`The object ${name} has become shorter.`, { cause: error })
      // A missing or closed bucket of a caller is permanent; the service's own store recovers.
      if (bucket !== undefined && error instanceof BucketUnavailableError)
        throw new MissingSliceError(error.message, { cause: error })
      throw error
    })
    if (!object) throw new MissingSliceError(`There is no object ${name}.`)
    // Stores cut off ranges that end beyond the object.
    if (object.size < end) {
      await object.body.cancel()
      throw new MissingSliceError(`The object ${name} has become shorter.`)
    }
    yield* object.body as ReadableStream<Uint8Array> & AsyncIterable<Uint8Array>
  }
}
