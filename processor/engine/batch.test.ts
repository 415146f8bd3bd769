import { describe, expect, it } from 'vitest'
import { bucketFor, bucketsUpTo, captionIds } from './batch.ts'

const buckets = [1, 2, 4]

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

describe('captionIds', () => {
  it.each([
    ['a prompt that the caption does not repeat', undefined, [7, 3]],
    ['one whose end it continues', 2, [9, 7, 3]],
    ['one that it is all of', 0, [1, 8, 9, 7, 3]],
  ])('of %s', (_, answer, expected) => {
    expect(captionIds({ ids: [1, 8, 9], places: [], answer }, { ids: [7, 3] })).toEqual(expected)
  })
})
