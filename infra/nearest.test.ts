import { expect, test } from 'vitest'
import { nearest } from './nearest.ts'

const names = ['max_tokens', 'max_completion_tokens', 'model', 'messages', 'stop', 'n', 'top_p']

test.each([
  ['max_token', 'max_tokens'],
  ['maxtokens', 'max_tokens'],
  ['MAX_TOKENS', 'max_tokens'],
  ['max_tokesn', 'max_tokens'],
  ['mesages', 'messages'],
  ['top_pp', 'top_p'],
  ['temperature', undefined],
  ['m', undefined],
  ['', undefined],
  ['x'.repeat(100_000), undefined],
])('%s is nearest to %s', (name, expected) => expect(nearest(name, names)).toBe(expected))
