import { expect, test } from 'vitest'
import { redact } from './redact.ts'

test('replaces the values of secrets, however their names are written', () => {
  const value = {
    headers: { Authorization: 'Bearer abc', 'x-api-key': 'k' },
    secretAccessKey: 's',
    set_cookie: 'c',
  }
  expect(redact(value)).toEqual({
    headers: { Authorization: '[redacted]', 'x-api-key': '[redacted]' },
    secretAccessKey: '[redacted]',
    set_cookie: '[redacted]',
  })
})

test('keeps fields that only sound like secrets', () => {
  expect(redact({ tokens_in: 197, tokensOut: 50 })).toEqual({ tokens_in: 197, tokensOut: 50 })
})

test('gives the length of bytes and data URLs instead of their content', () => {
  expect(redact({ image: new Uint8Array(5), parts: [Buffer.from('abc')] })).toEqual({
    image: '[5 bytes]',
    parts: ['[3 bytes]'],
  })
  const text = redact('bad image_url data:image/png;base64,iVBORw0KGgo= in the request')
  expect(text).toBe('bad image_url data:image/png [34 characters] in the request')
})

test('takes user, password and query from addresses', () => {
  expect(redact('GET https://user:pw@example.com/a.png?X-Signature=abc#x failed')).toBe(
    'GET https://example.com/a.png?[redacted] failed',
  )
  expect(redact(new URL('https://example.com/a.png'))).toBe('https://example.com/a.png')
})

test('writes errors out with their fields and causes', () => {
  const cause = new TypeError('no route')
  const error = Object.assign(new Error('cannot fetch', { cause }), { code: 'image_url_unreachable' })
  expect(redact({ err: error })).toEqual({
    err: {
      type: 'Error',
      message: 'cannot fetch',
      code: 'image_url_unreachable',
      stack: expect.stringContaining('cannot fetch'),
      cause: expect.objectContaining({ type: 'TypeError', message: 'no route' }),
    },
  })
})

test('ends in values that hold themselves', () => {
  const value: Record<string, unknown> = {}
  value.self = value
  expect(JSON.stringify(redact(value))).toContain('[...]')
})
