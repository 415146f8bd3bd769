import { describe, expect, it } from 'vitest'
import { bucketFor, bucketsUpTo, captionRows, padBatch } from './batch.ts'

const buckets = [1, 2, 4]
const schedule = { r: [4, 0], weight: [150, 0] }
const pixels = () => new Uint8Array(new SharedArrayBuffer(12))

describe('bucketsUpTo', () => {
  it.each([
    [1, [1]],
    [8, [1, 2, 4, 8]],
    [12, [1, 2, 4, 8, 12]],
  ])('%i', (most, buckets) => {
    expect(bucketsUpTo(most)).toEqual(buckets)
  })
})

describe('bucketFor', () => {
  it('is the smallest size with room', () => {
    expect([1, 2, 3, 4].map((count) => bucketFor(count, buckets))).toEqual([1, 2, 4, 4])
  })

  it.each([0, 5])('refuses %i images', (count) => {
    expect(() => bucketFor(count, buckets)).toThrow(RangeError)
  })
})

const sizes = { imageBytes: 3, maxLength: 20 }

describe('padBatch', () => {
  it('fills up with the first image and its prompt, in place', () => {
    const source = new Uint8Array(new SharedArrayBuffer(15)).fill(9)
    source.set([1, 2, 3, 4, 5, 6, 7, 8, 9])
    const run = {
      pixels: source,
      count: 3,
      prompt: [
        [1, 10],
        [1, 11],
        [1, 12],
      ],
      schedule,
    }
    const padded = padBatch(run, buckets, sizes)
    expect(padded).toMatchObject({ bucket: 4, promptLength: 2 })
    expect([...padded.pixels]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 1, 2, 3])
    expect(padded.pixels.buffer).toBe(source.buffer)
    expect([...padded.prompt]).toEqual([1n, 10n, 1n, 11n, 1n, 12n, 1n, 10n])
    expect([...padded.r]).toEqual([4n, 0n])
    expect([...padded.weight]).toEqual([150, 0])
  })

  it('gives each image its own limit, and never more than the model has', () => {
    const run = {
      pixels: new Uint8Array(new SharedArrayBuffer(15)),
      count: 3,
      prompt: [[1], [1], [1]],
      limits: [2, undefined, 99],
      schedule,
    }
    expect([...padBatch(run, buckets, sizes).limit]).toEqual([2n, 20n, 20n, 2n])
  })

  it('leaves a full bucket alone', () => {
    const source = new Uint8Array(new SharedArrayBuffer(6)).fill(5)
    const padded = padBatch({ pixels: source, count: 2, prompt: [[1], [1]], schedule }, buckets, sizes)
    expect(padded.bucket).toBe(2)
    expect([...padded.prompt]).toEqual([1n, 1n])
  })

  it.each([
    ['prompts of different lengths', [[1, 2], [1]]],
    ['a prompt too few', [[1]]],
    ['prompts without a start id', [[], []]],
  ])('refuses %s', (_, prompt) => {
    expect(() => padBatch({ pixels: pixels(), count: 2, prompt, schedule }, buckets, sizes)).toThrow(
      RangeError,
    )
  })

  it('refuses pixels without room for the bucket', () => {
    const run = { pixels: pixels(), count: 3, prompt: [[1], [1], [1]], schedule }
    expect(() => padBatch(run, buckets, { ...sizes, imageBytes: 4 })).toThrow(RangeError)
  })
})

describe('captionRows', () => {
  const rows = (
    ids: number[],
    count: number,
    bucket: number,
    promptLength = 1,
    limits = Array.from({ length: bucket }, () => 20),
  ) => {
    const limit = BigInt64Array.from(limits, BigInt)
    return captionRows(BigInt64Array.from(ids, BigInt), { count, bucket, promptLength, limit, endId: 3 })
  }

  it('cuts each row behind its end id and drops the rows of the padding', () => {
    expect(rows([1, 7, 3, 0, 1, 7, 8, 3, 1, 7, 3, 0], 2, 3)).toEqual([
      [1, 7, 3],
      [1, 7, 8, 3],
    ])
  })

  it('keeps a row that never ended whole', () => {
    expect(rows([1, 7, 8, 9], 1, 1)).toEqual([[1, 7, 8, 9]])
  })

  it('cuts a row at its own limit, where others went on', () => {
    expect(rows([1, 5, 7, 8, 0, 0, 1, 5, 7, 8, 9, 3], 2, 2, 2, [2, 20])).toEqual([
      [1, 5, 7, 8],
      [1, 5, 7, 8, 9, 3],
    ])
  })

  it('does not take an end id in the prompt for the end', () => {
    expect(rows([1, 3, 8, 3, 0], 1, 1, 2)).toEqual([[1, 3, 8, 3]])
  })
})
