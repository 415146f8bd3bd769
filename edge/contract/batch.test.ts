import { expect, test } from 'vitest'
import { parseCompletionWindow } from './batch.ts'

test.each([
  ['1m', 60],
  ['15m', 900],
  ['24h', 86_400],
  ['3d', 259_200],
  ['30d', 2_592_000],
  ['43200m', 2_592_000],
])('%s is %i s', (text, seconds) => expect(parseCompletionWindow(text)).toBe(seconds))

test.each([
  '0m',
  '31d',
  '43201m',
  '',
  '24',
  'h',
  '24 h',
  '1.5h',
  '-1h',
  '24H',
  '10s',
  '1d12h',
  '9'.repeat(400),
])('"%s" is refused with what is allowed', (text) => {
  expect(() => parseCompletionWindow(text)).toThrow(
    expect.objectContaining({
      code: 'completion_window_invalid',
      param: 'completion_window',
      message: expect.stringContaining('"15m"'),
    }),
  )
})
