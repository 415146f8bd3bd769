import { BaseError } from '../errors.ts'
/** Range outside of the object. */
export class InvalidRangeError extends BaseError {}

/** A part of an object in bytes, both ends included, as in HTTP; without `end`, to the object's end. */
export interface ByteRange {
  start: number
  end?: number
}

/**
 * Resolves a range to the bytes `[start, end)` of an object of `size` bytes; all of them without a range. An end beyond
 * the object is cut off.
 * @throws InvalidRangeError when the range starts behind the object's last byte, or ends before its start
 */
export function resolveRange(size: number, range?: ByteRange): { start: number; end: number } {
  if (!range) return { start: 0, end: size }
  const { start, end = size - 1 } = range
  if (!Number.isSafeInteger(start) || start < 0 || start >= size || end < start)
    throw new InvalidRangeError(`The range ${start}-${range.end ?? ''} is not in an object of ${size} bytes.`)
  return { start, end: Math.min(end + 1, size) }
}
