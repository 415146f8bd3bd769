import fc from 'fast-check'
import { expect, test } from 'vitest'
import { memoryStore } from './memory.fixture.ts'
import { cutSlices, MissingSliceError, readSlices, type Slice, sliceBytes } from './slices.ts'
import { BucketUnavailableError } from './store.ts'

const alphabet = 'abcdefghijklmnopqrstuvwxyz'

/** Slices of objects that all hold the alphabet, so that what they are together can be written down. */
const slices = fc.array(
  fc
    .tuple(fc.constantFrom('x', 'y'), fc.nat(alphabet.length), fc.nat(alphabet.length))
    .map(([key, a, b]): Slice => ({ key, start: Math.min(a, b), end: Math.max(a, b) })),
  { maxLength: 8 },
)
const textOf = (slices: readonly Slice[]) =>
  slices.map(({ start, end }) => alphabet.slice(start, end)).join('')

test('what is cut is that part of the whole', () => {
  fc.assert(
    fc.property(slices, fc.nat(100), fc.nat(100), (whole, start, length) => {
      const cut = cutSlices(whole, start, start + length)
      expect(textOf(cut)).toBe(textOf(whole).slice(start, start + length))
      expect(sliceBytes(cut)).toBe(textOf(cut).length)
      expect(cut.every((slice) => slice.start < slice.end)).toBe(true)
    }),
  )
})

test('what is cut in two is together the whole', () => {
  fc.assert(
    fc.property(slices, fc.nat(100), (whole, at) => {
      expect(textOf([...cutSlices(whole, 0, at), ...cutSlices(whole, at)])).toBe(textOf(whole))
    }),
  )
})

test('a cut stays in its bucket', () => {
  expect(cutSlices([{ bucket: 'b', key: 'k', start: 10, end: 20 }], 2, 5)).toEqual([
    { bucket: 'b', key: 'k', start: 12, end: 15 },
  ])
})

async function read(slices: Slice[], stores: Parameters<typeof readSlices>[1]): Promise<string> {
  const chunks: Uint8Array[] = []
  for await (const chunk of readSlices(slices, stores)) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

test('reads slices of several objects and buckets one after the other', async () => {
  const own = memoryStore().store
  const theirs = memoryStore().store
  await own.put('k', alphabet)
  await theirs.put('k', alphabet.toUpperCase())
  const slices = [
    { key: 'k', start: 0, end: 3 },
    { bucket: 'theirs', key: 'k', start: 1, end: 2 },
    { key: 'k', start: 5, end: 5 },
    { key: 'k', start: 25, end: 26 },
  ]
  const buckets = (name: string) => (name === 'theirs' ? theirs : memoryStore().store)
  expect(await read(slices, { store: own, buckets })).toBe('abcBz')
})

test('says which object is missing', async () => {
  const { store } = memoryStore()
  const inBucket = [{ bucket: 'theirs', key: 'gone', start: 0, end: 1 }]
  const buckets = () => memoryStore().store
  await expect(read([{ key: 'gone', start: 0, end: 1 }], { store })).rejects.toThrow(MissingSliceError)
  await expect(read(inBucket, { store, buckets })).rejects.toThrow('There is no object "gone" in theirs.')
  await expect(read(inBucket, { store })).rejects.toThrow(MissingSliceError)
})

test.each([2, 5])('finds out that an object of 10 bytes has only %i left', async (left) => {
  const { store } = memoryStore()
  await store.put('k', alphabet.slice(0, left))
  const slices = [{ key: 'k', start: 4, end: 10 }]
  await expect(read(slices, { store })).rejects.toThrow(MissingSliceError)
})

test("another's bucket that is closed is missing for good, the service's own store is waited for", async () => {
  const closed = new BucketUnavailableError('forbidden', 'The bucket is closed.', {})
  const store = { ...memoryStore().store, get: () => Promise.reject(closed) }
  const slice = { key: 'k', start: 0, end: 1 }
  const buckets = () => store
  await expect(read([{ ...slice, bucket: 'theirs' }], { store, buckets })).rejects.toThrow(MissingSliceError)
  await expect(read([slice], { store })).rejects.toBe(closed)
})
