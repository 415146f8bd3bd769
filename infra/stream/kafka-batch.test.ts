import { expect, test } from 'vitest'
import { countFitting, partsOf, sizedMessage } from './kafka-batch.ts'

const recordOf = (bytes: number, key = 'a') => ({ key, value: new Uint8Array(bytes), headers: {} })
const sizesOf = (bytes: number[]) => bytes.map((size) => ({ bytes: size, records: 1 }))

test('counts the bytes of values, keys and headers, in UTF-8', () => {
  const bare = sizedMessage(recordOf(1000)).size.bytes
  const more = sizedMessage({ ...recordOf(1000), headers: { é: '日本' } }).size.bytes
  expect(bare).toBeGreaterThan(1000)
  expect(more - bare).toBe(2 + 6)
})

test('takes what stays within both limits, and one at least', () => {
  const limits = { bytes: 100, records: 3 }
  expect(countFitting(sizesOf([60, 40, 1]), limits)).toBe(2)
  expect(countFitting(sizesOf([1, 1, 1, 1]), limits)).toBe(3)
  expect(countFitting(sizesOf([500, 1]), limits)).toBe(1)
  expect(countFitting([], limits)).toBe(0)
})

test('cuts into parts and keeps the order', () => {
  const keys = ['a', 'b', 'c', 'd', 'e']
  const messages = keys.map((key) => sizedMessage(recordOf(key === 'c' ? 5000 : 10, key)))
  const parts = partsOf(messages, { bytes: 1000, records: 2 })
  expect(parts.map((part) => part.map(({ message }) => message.key))).toEqual([['a', 'b'], ['c'], ['d', 'e']])
  expect(partsOf([], { bytes: 1000, records: 2 })).toEqual([])
})
