import fc from 'fast-check'
import { encodeBase64 } from 'hono/utils/encode'
import { expect, test } from 'vitest'
import { decodeDataUrl } from './data-url.ts'

test('the bytes come out as they went in', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      expect(decodeDataUrl(`data:image/png;base64,${encodeBase64(bytes.slice().buffer)}`)).toEqual(bytes)
    }),
  )
})

test.each([
  'data:;base64,AAAA',
  'DATA:Image/PNG;name=a;BASE64,AAAA',
  'data:application/octet-stream;base64,AAAA',
  'data:image/png;base64,-_-_',
  'data:image/png;base64,-_+/',
  'data:image/png;base64,AA\r\nA A\n',
])('%s is understood', (url) => expect(decodeDataUrl(url)).toHaveLength(3))

test.each([
  ['no comma', 'data:image/png;base64'],
  ['not base64', 'data:image/png,AAAA'],
  ['another media type', 'data:text/plain;base64,AAAA'],
  ['foreign characters', 'data:image/png;base64,A*=='],
  ['a wrong length', 'data:image/png;base64,AAAAA'],
  ['a wrong length and a foreign character', 'data:image/png;base64,AAAAA*'],
  ['letters beyond ASCII', 'data:image/png;base64,AAA\u0141'],
  ['padding inside', 'data:image/png;base64,AA==AAAA'],
  ['too much padding', 'data:image/png;base64,AA==='],
  ['percent signs', 'data:image/png;base64,AA%3D%3D'],
  ['a head without an end', `data:${';'.repeat(1000)},AAAA`],
])('%s is refused by name', (_name, url) => {
  expect(() => decodeDataUrl(url)).toThrow(
    expect.objectContaining({ status: 400, code: 'image_url_invalid', param: 'image_url' }),
  )
})

test('an image with more bytes than allowed is not decoded', () => {
  expect(decodeDataUrl('data:;base64,AAAA', 3)).toHaveLength(3)
  expect(() => decodeDataUrl('data:;base64,AAAAAAAA', 3)).toThrow(
    expect.objectContaining({ code: 'image_url_too_large' }),
  )
})

test('any text is decoded as `atob` does, or refused as it does', () => {
  const nearlyBase64 = fc
    .array(fc.constantFrom('A', 'z', '0', '+', '/', '=', ' ', '\n', '*', '\u0141'))
    .map((parts) => parts.join(''))
  const atobOf = (text: string) => {
    try {
      return Uint8Array.from(atob(text), (character) => character.charCodeAt(0))
    } catch {
      return undefined
    }
  }
  fc.assert(
    fc.property(fc.oneof(nearlyBase64, fc.string()), (text) => {
      const expected = atobOf(text.replaceAll('-', '+').replaceAll('_', '/'))
      const decoded = (() => {
        try {
          return decodeDataUrl(`data:;base64,${text}`)
        } catch {
          return undefined
        }
      })()
      // `atob` also refuses padding of a wrong length, which does no harm.
      if (expected || decoded)
        expect(decoded).toEqual(
          expected ?? atobOf(text.replace(/=/g, '').replaceAll('-', '+').replaceAll('_', '/')),
        )
    }),
    { numRuns: 1000 },
  )
})
