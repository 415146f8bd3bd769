import { expect, test } from 'vitest'
import { assertKey, InvalidKeyError } from './key.ts'

test.each(['a', 'a/b', 'a..b/.c', '日本/🐟', ' ', 'é'.repeat(512), 'a'.repeat(1024)])('takes %j', (key) => {
  expect(() => assertKey(key)).not.toThrow()
})

test.each([
  '',
  '/',
  '/a',
  'a/',
  'a//b',
  '.',
  '..',
  'a/../b',
  'a/.',
  '\ud800',
  'a'.repeat(1025),
  'é'.repeat(513),
])('refuses %j', (key) => {
  expect(() => assertKey(key)).toThrow(InvalidKeyError)
})
