import { InvalidArgumentError } from 'commander'
import { expect, test } from 'vitest'
import { anyNumber, count, index, keyValue, numberOrList, positive, share } from './options.ts'

test('values are read', () => {
  expect(count('3')).toBe(3)
  expect(index('0')).toBe(0)
  expect(share('0.5')).toBe(0.5)
  expect(positive('2.5')).toBe(2.5)
  expect(keyValue('b=x=y', { a: '1' })).toEqual({ a: '1', b: 'x=y' })
  expect(anyNumber('-1.5')).toBe(-1.5)
  expect(numberOrList('16')).toBe(16)
  expect(numberOrList('40,30,0')).toEqual([40, 30, 0])
})

test.each([
  [count, '0'],
  [count, ''],
  [count, 'half'],
  [count, '2.5'],
  [index, '-1'],
  [positive, '0'],
  [positive, '-1'],
  [positive, ''],
  [positive, 'many'],
  [share, '1.1'],
  [share, '-0.1'],
  [keyValue, '=1'],
  [keyValue, 'a'],
  [anyNumber, 'Infinity'],
  [numberOrList, '16,a'],
  [numberOrList, '40,'],
] as const)('%o refuses %j', (read, text) => {
  expect(() => read(text)).toThrow(InvalidArgumentError)
})
