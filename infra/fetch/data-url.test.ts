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
])('%s is understood', (url) => expect(decodeDataUrl(url)).toHaveLength(3))

test.each([
  ['no comma', 'data:image/png;base64'],
  ['not base64', 'data:image/png,AAAA'],
  ['another media type', 'data:text/plain;base64,AAAA'],
  ['foreign characters', 'data:image/png;base64,A*=='],
  ['a wrong length', 'data:image/png;base64,AAAAA'],
])('%s is refused by name', (_name, url) => {
  expect(() => decodeDataUrl(url)).toThrow(
    expect.objectContaining({ status: 400, code: 'image_url_invalid', param: 'image_url' }),
  )
})
