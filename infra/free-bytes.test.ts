import { expect, test } from 'vitest'
import { freeBytes } from './free-bytes.ts'

test('bytes with a buffer of their own are gone', () => {
  const bytes = new Uint8Array(65_536)
  freeBytes(bytes)
  expect(bytes.length).toBe(0)
  freeBytes(bytes)
})

test.each([
  ['a part of a buffer', () => new Uint8Array(new ArrayBuffer(65_536), 0, 65_535)],
  ['what threads share', () => new Uint8Array(new SharedArrayBuffer(65_536))],
  ['a few bytes', () => new Uint8Array(100)],
])('%s stays', (_, make) => {
  const bytes = make()
  const { length } = bytes
  freeBytes(bytes)
  expect(bytes.length).toBe(length)
})
