import type { Schedule } from '../turbo/schedule.ts'

/** Batch sizes of a session: few, since its memory grows with every new shape. */
export const defaultBuckets = [1, 2, 4, 8, 16]

/** Batch sizes of a device with a maximum of `most` images: the powers of two below it, and itself. */
export function bucketsUpTo(most: number): number[] {
  const buckets: number[] = []
  for (let bucket = 1; bucket < most; bucket *= 2) buckets.push(bucket)
  return [...buckets, most]
}

/** Batch for a device. */
export interface DeviceRun {
  /** `uint8 [capacity, H, W, 3]` in shared memory, with room for the bucket of `count`. */
  pixels: Uint8Array<SharedArrayBuffer>
  /** Images in the batch; the rows behind them are overwritten. */
  count: number
  /** For each image the start id and then its prompt's ids, all of one length. */
  prompt: number[][]
  /** Maximum ids of each image's caption, its prompt not counted; default: the model's own. */
  limits?: (number | undefined)[]
  schedule: Schedule
}

/** Batch for the device's thread, padded to its bucket. */
export interface PaddedRun {
  /** `uint8 [bucket, H, W, 3]` */
  pixels: Uint8Array<SharedArrayBuffer>
  bucket: number
  /** `int64 [bucket, promptLength]` */
  prompt: BigInt64Array
  promptLength: number
  /** `int64 [bucket, 1]` */
  limit: BigInt64Array
  /** `int64 [layers]` */
  r: BigInt64Array
  /** `float32 [layers]` */
  weight: Float32Array
}

/** The smallest bucket with room for `count` images. @throws RangeError when there is none. */
export function bucketFor(count: number, buckets: number[]): number {
  const fitting = buckets.filter((bucket) => bucket >= count)
  if (count < 1 || fitting.length === 0) {
    throw new RangeError(`a batch of ${count} images does not fit the batch sizes ${buckets.join(', ')}`)
  }
  return Math.min(...fitting)
}

/**
 * Pads a batch with copies of its first image, whose caption ends no later than the batch's longest.
 * @param imageBytes bytes of one image, `H * W * 3`
 * @param maxLength maximum ids of a caption
 * @throws RangeError when prompts differ in length or number, or the pixels have no room.
 */
export function padBatch(
  run: DeviceRun,
  buckets: number[],
  { imageBytes, maxLength }: { imageBytes: number; maxLength: number },
): PaddedRun {
  const { count, prompt, limits = [], schedule } = run
  const bucket = bucketFor(count, buckets)
  const promptLength = prompt[0]?.length ?? 0
  if (prompt.length !== count || prompt.some((ids) => ids.length !== promptLength) || promptLength === 0) {
    throw new RangeError(`a batch of ${count} images needs ${count} prompts of one length, 1 or more`)
  }
  if (run.pixels.length < bucket * imageBytes) {
    throw new RangeError(
      `pixels have ${run.pixels.length} bytes, a batch of ${bucket} ${bucket * imageBytes}`,
    )
  }
  const pixels = run.pixels.subarray(0, bucket * imageBytes)
  const rows = [...prompt]
  const limitOf = (index: number) => Math.min(limits[index] ?? maxLength, maxLength)
  for (let i = count; i < bucket; i++) {
    pixels.copyWithin(i * imageBytes, 0, imageBytes)
    rows.push(prompt[0]!)
  }
  return {
    pixels,
    bucket,
    prompt: BigInt64Array.from(rows.flat(), BigInt),
    promptLength,
    limit: BigInt64Array.from(rows, (_, index) => BigInt(limitOf(index < count ? index : 0))),
    r: BigInt64Array.from(schedule.r, BigInt),
    weight: Float32Array.from(schedule.weight),
  }
}

/**
 * First `count` rows of `ids int64 [bucket, T]`, each up to its end id, which is searched behind the prompt, or to its
 * limit.
 */
export function captionRows(
  ids: BigInt64Array,
  {
    count,
    bucket,
    promptLength,
    limit,
    endId,
  }: { count: number; endId: number } & Pick<PaddedRun, 'bucket' | 'promptLength' | 'limit'>,
): number[][] {
  const length = ids.length / bucket
  return Array.from({ length: count }, (_, i) => {
    const row = Array.from(ids.subarray(i * length, (i + 1) * length), Number)
    const end = row.indexOf(endId, promptLength)
    return row.slice(0, end < 0 ? promptLength + Number(limit[i]) : end + 1)
  })
}
