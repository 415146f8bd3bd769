import fc from 'fast-check'
import sharp from 'sharp'
import { expect, test } from 'vitest'
import { pngHeader } from '../app.fixture.ts'
import { checkImage } from './image.ts'

const formats = ['jpeg', 'png', 'webp', 'gif', 'tiff', 'avif'] as const

const picture = (format: (typeof formats)[number], width = 60, height = 40) =>
  sharp({ create: { width, height, channels: 3, background: 'red' } })
    .toFormat(format)
    .toBuffer()

/** A copy in which every pair of big-endian 16-bit numbers `from` became `to`. */
function patched(bytes: Uint8Array, from: [number, number], to: [number, number]): Uint8Array {
  const copy = new Uint8Array(bytes)
  const view = new DataView(copy.buffer)
  for (let offset = 0; offset + 4 <= copy.length; offset++)
    if (view.getUint16(offset) === from[0] && view.getUint16(offset + 2) === from[1]) {
      view.setUint16(offset, to[0])
      view.setUint16(offset + 2, to[1])
    }
  return copy
}

test.each(formats)('a small %s passes', async (format) => {
  const bytes = await picture(format)
  expect(() => checkImage(bytes)).not.toThrow()
})

test('200 megapixels pass; more than the setting is refused before decoding, with its name', () => {
  expect(() => checkImage(pngHeader(16_320, 12_240))).not.toThrow()
  const limits = { maxPixels: 64_000_000, maxDecodeBytes: 1e9 }
  expect(() => checkImage(pngHeader(8000, 8000), 'image', limits)).not.toThrow()
  expect(() => checkImage(pngHeader(8000, 8001), 'image', limits)).toThrow(
    expect.objectContaining({
      status: 413,
      code: 'image_too_large',
      message: expect.stringMatching(/65 megapixels; at most 64 .*TURBINE_MAX_PIXELS/),
    }),
  )
})

test('the size of a JPEG is found behind its other segments', async () => {
  const jpeg = await sharp({ create: { width: 60, height: 40, channels: 3, background: 'red' } })
    .jpeg()
    .withExif({ IFD0: { ImageDescription: 'x'.repeat(20_000) } })
    .toBuffer()
  expect(() => checkImage(jpeg)).not.toThrow()
  expect(() => checkImage(patched(jpeg, [40, 60], [60_000, 60_000]))).toThrow(/megapixels/)
})

test.each(['tiff', 'gif'] as const)('a huge %s is refused', async (format) => {
  const bytes = new Uint8Array(await picture(format, 300, 200))
  const view = new DataView(bytes.buffer)
  if (format === 'gif') {
    view.setUint16(6, 65_535, true)
    view.setUint16(8, 65_535, true)
  } else {
    const directory = view.getUint32(4, true)
    for (const entry of [0, 1, 2, 3]) {
      const at = directory + 2 + entry * 12
      if ([256, 257].includes(view.getUint16(at, true))) view.setUint16(at + 8, 65_535, true)
    }
  }
  expect(() => checkImage(bytes)).toThrow(expect.objectContaining({ code: 'image_too_large' }))
})

test('a huge AVIF is refused', async () => {
  const avif = await picture('avif', 60, 40)
  const huge = patched(patched(avif, [0, 60], [1, 60]), [0, 40], [1, 40])
  expect(() => checkImage(huge)).toThrow(expect.objectContaining({ code: 'image_too_large' }))
})

/** A box of ISO media files: its size, its name, what is in it. */
function box(name: string, ...parts: (number[] | Uint8Array)[]): Uint8Array {
  const content = parts.flatMap((part) => [...part])
  const bytes = new Uint8Array(8 + content.length)
  new DataView(bytes.buffer).setUint32(0, bytes.length)
  bytes.set(new TextEncoder().encode(name), 4)
  bytes.set(content, 8)
  return bytes
}

const avifOf = (...heightBytes: number[]) => {
  const versionAndFlags = [0, 0, 0, 0]
  const sizes = heightBytes.map((byte) => box('ispe', versionAndFlags, [0, 0, 4, 0], [0, byte, 0, 0]))
  const properties = box('iprp', box('ipco', ...sizes))
  const brand = new TextEncoder().encode('avif\0\0\0\0avif')
  return new Uint8Array([...box('ftyp', brand), ...box('meta', versionAndFlags, properties)])
}

test('an AVIF is as large as the largest picture in it', () => {
  expect(() => checkImage(avifOf(0, 0))).not.toThrow()
  expect(() => checkImage(avifOf(0, 1))).toThrow(expect.objectContaining({ code: 'image_too_large' }))
})

test('nothing is an empty image', () => {
  expect(() => checkImage(new Uint8Array(0), 'image_url')).toThrow(
    expect.objectContaining({ status: 400, code: 'image_invalid', param: 'image_url' }),
  )
})

test.each([
  ['text', new TextEncoder().encode('hello, this is no image at all')],
  ['SVG', new TextEncoder().encode('<svg xmlns="http://www.w3.org/2000/svg"/>')],
  ['BMP', new TextEncoder().encode('BM6\0\0\0')],
])('%s is refused with the formats that are accepted', (_name, bytes) => {
  expect(() => checkImage(bytes)).toThrow(
    expect.objectContaining({
      status: 415,
      code: 'image_invalid',
      message: expect.stringContaining('JPEG, PNG, WebP, GIF, TIFF, AVIF'),
    }),
  )
})

test('whatever follows a signature, only errors for callers come out', async () => {
  const heads = await Promise.all(formats.map(async (format) => (await picture(format)).subarray(0, 32)))
  fc.assert(
    fc.property(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 400 }), (head, tail) => {
      try {
        checkImage(new Uint8Array([...head, ...tail]))
      } catch (error) {
        expect(error).toMatchObject({ code: 'image_too_large' })
      }
    }),
  )
})
