import fc from 'fast-check'
import { encodeBase64 } from 'hono/utils/encode'
import { describe, expect, test } from 'vitest'
import { decodeDataUrl, decodeDataUrlNow } from './data-url.ts'
import { imageAddress } from './image-address.ts'

test('the bytes come out as they went in', async () => {
  await fc.assert(
    fc.asyncProperty(fc.uint8Array(), async (bytes) => {
      const url = `data:image/png;base64,${encodeBase64(bytes.slice().buffer)}`
      expect(await decodeDataUrl(url)).toEqual(bytes)
      expect(decodeDataUrlNow(url)).toEqual(bytes)
    }),
  )
})

/** The beginning of a PNG, and bytes that need `+`, `/` and padding in base64. */
const picture = Uint8Array.from([
  ...[0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13],
  ...Array.from({ length: 53 }, (_, index) => 255 - index),
])
const base64 = Buffer.from(picture).toString('base64')
const base64url = Buffer.from(picture).toString('base64url')
const percentEncoded = [...picture].map((byte) => `%${byte.toString(16).padStart(2, '0')}`).join('')
const wrapped = (lineEnd: string, length = 76) => base64.replace(RegExp(`.{${length}}`, 'g'), `$&${lineEnd}`)

describe('forms that clients send', () => {
  test.each([
    ['as usual', `data:image/png;base64,${base64}`],
    ['in capitals', `DATA:IMAGE/PNG;BASE64,${base64}`],
    ['without a media type', `data:;base64,${base64}`],
    ['without a subtype', `data:image;base64,${base64}`],
    ['with parameters', `data:image/png;charset=utf-8;name=a.png;base64,${base64}`],
    ['with a parameter behind', `data:image/png;base64;charset=utf-8,${base64}`],
    ['with spaces in the head', `data: image/png ; base64 ,${base64}`],
    ['of any media type', `data:text/plain;base64,${base64}`],
    ['of binary/octet-stream', `data:binary/octet-stream;base64,${base64}`],
    ['of application/octet-stream', `data:application/octet-stream;base64,${base64}`],
    ['with slashes, as PHP has it', `data://image/png;base64,${base64}`],
    ['in lines', `data:image/png;base64,${wrapped('\n')}`],
    ['in lines as mail has them', `data:image/png;base64,${wrapped('\r\n', 64)}`],
    ['in lines with indents', `data:image/png;base64,\n${wrapped('\n\t  ')}\n`],
    ['with a space at the comma', `data:image/png;base64, ${base64}`],
    ['in lines that spaces end', `data:image/png;base64,${wrapped(' ', 20)}`],
    ['from a form, with spaces for each plus', `data:image/png;base64,${base64.replaceAll('+', ' ')}`],
    ['in the alphabet of URLs', `data:image/png;base64,${base64url}`],
    ['without padding', `data:image/png;base64,${base64.replace(/=+$/, '')}`],
    ['in base64 with percent signs', `data:image/png;base64,${encodeURIComponent(base64)}`],
    ['in lines, with percent signs', `data:image/png;base64,${encodeURIComponent(wrapped('\r\n'))}`],
    ['percent-encoded', `data:image/png,${percentEncoded}`],
    ['percent-encoded, in capitals', `data:image/png,${percentEncoded.toUpperCase()}`],
    ['percent-encoded, without a media type', `data:,${percentEncoded}`],
    ['in base64 that is not said', `data:image/png,${base64}`],
    ['with two prefixes', `data:image/png;base64,data:image/jpeg;base64,${base64}`],
    ['without a prefix', imageAddress(base64)],
    ['without a prefix, in lines', imageAddress(`\n${wrapped('\n')}\n`)],
    ['without a prefix, in the alphabet of URLs', imageAddress(base64url)],
  ])('%s', async (_name, url) => expect(await decodeDataUrl(url)).toEqual(picture))
})

test('lines that spaces end stay lines where no plus is in them', async () => {
  const bytes = new Uint8Array(90).fill(0x55)
  const lines = Buffer.from(bytes).toString('base64').replace(/.{32}/g, '$& ')
  expect(await decodeDataUrl(`data:image/png;base64,${lines}`)).toEqual(bytes)
})

test.each([
  ['no comma', 'data:image/png;base64'],
  ['foreign characters', 'data:image/png;base64,A*=='],
  ['a wrong length', 'data:image/png;base64,AAAAA'],
  ['a wrong length and a foreign character', 'data:image/png;base64,AAAAA*'],
  ['letters beyond ASCII', 'data:image/png;base64,AAA\u0141'],
  ['letters beyond ASCII among spaces', 'data:image/png;base64,AAA \u0141'],
  ['percent-encoded letters beyond ASCII', 'data:image/png;base64,AAA%E9'],
  ['padding inside', 'data:image/png;base64,AA==AAAA'],
  ['too much padding', 'data:image/png;base64,AA==='],
  ['half an escape', 'data:image/png;base64,AA%3'],
  ['a head without an end', `data:${';'.repeat(1000)},AAAA`],
  ["Python's bytes", `data:image/png;base64,b'${base64}'`],
])('%s is refused by name', async (_name, url) => {
  await expect(decodeDataUrl(url)).rejects.toMatchObject({
    status: 400,
    code: 'image_url_invalid',
    param: 'image_url',
  })
})

test.each([
  ['base64', `data:;base64,${'A'.repeat(400)}`],
  ['base64 in lines', `data:;base64,${'AAAA\n'.repeat(100)}`],
  ['percent signs', `data:,${'%00'.repeat(300)}`],
])('an image with more bytes than allowed is not decoded: %s', async (_name, url) => {
  expect(await decodeDataUrl(url, 300)).toHaveLength(300)
  await expect(decodeDataUrl(url, 299)).rejects.toMatchObject({ code: 'image_url_too_large' })
})

describe('images of megabytes', () => {
  const large = Buffer.alloc(5 * 1024 * 1024 + 1)
  for (let at = 0; at < large.length; at++) large[at] = (at * 2_654_435_761) >>> 13
  const text = large.toString('base64')

  test.each([
    ['plain', text],
    ['in lines', text.replace(/.{76}/g, '$&\r\n')],
    ['with an escape at each place of a step', text.replaceAll('+', '%2B')],
    ['with an end of spaces', `${text}${' '.repeat(5 * 1024 * 1024)}`],
  ])('%s, in several turns', async (_name, data) => {
    let turns = 0
    const timer = setInterval(() => turns++, 0)
    const decoded = await decodeDataUrl(`data:image/png;base64,${data}`)
    clearInterval(timer)
    expect(large.equals(decoded)).toBe(true)
    expect(turns).toBeGreaterThan(0)
  })

  test('percent-encoded, cut anywhere', async () => {
    const escapes = `${'%41'.repeat(1_500_000)}B`
    const decoded = await decodeDataUrl(`data:,${escapes}`)
    expect(Buffer.from(`${'A'.repeat(1_500_000)}B`).equals(decoded)).toBe(true)
  })
})

test('any text is decoded as `atob` does, or refused as it does', async () => {
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
  await fc.assert(
    fc.asyncProperty(fc.oneof(nearlyBase64, fc.string()), async (text) => {
      // Escapes are no business of `atob`.
      fc.pre(!text.includes('%'))
      const expected = atobOf(text.replaceAll('-', '+').replaceAll('_', '/'))
      const decoded = await decodeDataUrl(`data:;base64,${text}`).catch(() => undefined)
      // `atob` also refuses padding of a wrong length, which does no harm.
      if (expected || decoded)
        expect(decoded).toEqual(
          expected ?? atobOf(text.replace(/=/g, '').replaceAll('-', '+').replaceAll('_', '/')),
        )
    }),
    { numRuns: 1000 },
  )
})
