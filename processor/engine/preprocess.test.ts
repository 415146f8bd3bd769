import { readFile } from 'node:fs/promises'
import { crc32 } from 'node:zlib'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import type { SquashRule } from '../models/pictures.ts'
import { type PreprocessOptions, preprocess } from './preprocess.ts'

const fixtures = new URL('../../test/fixtures/formats/', import.meta.url)

const side = 32
const spec: SquashRule = { kind: 'squash', height: side, width: side, resample: 'bicubic' }

type Colour = [number, number, number]
const red: Colour = [230, 20, 30]
const blue: Colour = [20, 40, 220]

/** Pixels `[height, width, 3]` from a function of place. */
function paint(width: number, height: number, colourAt: (x: number, y: number) => Colour): Buffer {
  const data = Buffer.alloc(width * height * 3)
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) data.set(colourAt(x, y), (y * width + x) * 3)
  return data
}

const raw = (data: Buffer, width: number, height: number) =>
  sharp(data, { raw: { width, height, channels: 3 } })
const gradient = paint(side, side, (x, y) => [x * 8, y * 8, (x * y) % 256])
const plain = (colour: Colour, width = side, height = side) =>
  raw(
    paint(width, height, () => colour),
    width,
    height,
  )

async function run(bytes: Uint8Array, image = spec): Promise<Uint8Array> {
  const target = new Uint8Array(new SharedArrayBuffer(image.height * image.width * 3))
  await preprocess(bytes, image, target)
  return target
}

const pixel = (data: Uint8Array, x: number, y: number, width = side): number[] => [
  ...data.subarray((y * width + x) * 3, (y * width + x) * 3 + 3),
]

function expectNear(actual: number[], expected: Colour, tolerance: number) {
  expected.forEach((value, i) => {
    expect(Math.abs(actual[i]! - value), `${actual} is not near ${expected}`).toBeLessThanOrEqual(tolerance)
  })
}

describe('preprocess', () => {
  it('leaves an image of the right size as it is', async () => {
    const png = await raw(gradient, side, side).png().toBuffer()
    expect(Buffer.from(await run(png)).equals(gradient)).toBe(true)
  })

  it.each(['png', 'webp', 'tiff', 'gif', 'jpeg', 'avif'] as const)('reads %s', async (format) => {
    const bytes = await plain(red).toFormat(format, { quality: 100, lossless: true }).toBuffer()
    expectNear(pixel(await run(bytes), 16, 16), red, 4)
  })

  it('squashes to the size of the model, wide and high', async () => {
    const halves = paint(90, 40, (x) => (x < 45 ? red : blue))
    const out = await run(await raw(halves, 90, 40).png().toBuffer(), {
      kind: 'squash',
      height: 20,
      width: 30,
      resample: 'bicubic',
    })
    expect(out.length).toBe(20 * 30 * 3)
    expect(pixel(out, 5, 19, 30)).toEqual(red)
    expect(pixel(out, 25, 0, 30)).toEqual(blue)
  })

  it('samples enlarged pixels at their centres, as Pillow does', async () => {
    const ramp = paint(8, 8, (x) => [x * 30, x * 30, x * 30])
    const out = await run(await raw(ramp, 8, 8).png().toBuffer(), {
      kind: 'squash',
      height: 16,
      width: 16,
      resample: 'bicubic',
    })
    // Image.resize((16, 16), Image.BICUBIC) of Pillow on the same ramp, but for the outermost pixels.
    const pillow = [5, 21, 38, 53, 68, 83, 98, 113, 128, 143, 158, 173, 189, 205]
    for (const [i, value] of pillow.entries()) {
      expectNear(pixel(out, i + 1, 8, 16), [value, value, value], 1)
    }
  })

  it('samples at centres where one axis shrinks and the other grows', async () => {
    const ramp = paint(64, 8, (_, y) => [y * 30, y * 30, y * 30])
    const out = await run(await raw(ramp, 64, 8).png().toBuffer(), {
      kind: 'squash',
      height: 16,
      width: 16,
      resample: 'bicubic',
    })
    expectNear(pixel(out, 8, 4, 16), [53, 53, 53], 1)
    expectNear(pixel(out, 8, 12, 16), [173, 173, 173], 1)
  })

  it('uses the kernel that the model names', async () => {
    const edge = await raw(
      paint(8, 8, (x) => (x < 4 ? [0, 0, 0] : [255, 255, 255])),
      8,
      8,
    )
      .png()
      .toBuffer()
    const values = async (resample: SquashRule['resample']) =>
      new Set(await run(edge, { kind: 'squash', height: 16, width: 16, resample })).size
    expect(await values('nearest')).toBe(2)
    expect(await values('bilinear')).toBeGreaterThan(2)
  })

  const last = side - 1
  const stored = (x: number, y: number) => [...gradient.subarray((y * side + x) * 3, (y * side + x) * 3 + 3)]
  it.each([
    [1, (x: number, y: number) => stored(x, y)],
    [2, (x: number, y: number) => stored(last - x, y)],
    [3, (x: number, y: number) => stored(last - x, last - y)],
    [4, (x: number, y: number) => stored(x, last - y)],
    [5, (x: number, y: number) => stored(y, x)],
    [6, (x: number, y: number) => stored(y, last - x)],
    [7, (x: number, y: number) => stored(last - y, last - x)],
    [8, (x: number, y: number) => stored(last - y, x)],
  ] as const)('applies EXIF orientation %i', async (orientation, shown) => {
    const out = await run(await raw(gradient, side, side).withMetadata({ orientation }).png().toBuffer())
    for (const [x, y] of [
      [3, 7],
      [30, 2],
      [9, 28],
    ] as const) {
      expect(pixel(out, x, y)).toEqual(shown(x, y))
    }
  })

  it('takes the size after the orientation: a turned image of the right size is not resampled', async () => {
    const tall = paint(10, 20, (x, y) => [x * 20, y * 10, 90])
    const bytes = await raw(tall, 10, 20).withMetadata({ orientation: 6 }).png().toBuffer()
    const out = await run(bytes, { kind: 'squash', height: 10, width: 20, resample: 'bicubic' })
    expect(pixel(out, 19, 3, 20)).toEqual([60, 0, 90])
  })

  it('puts transparency on white', async () => {
    const half = { r: 255, g: 0, b: 0, alpha: 0.5 }
    const bytes = await sharp({ create: { width: side, height: side, channels: 4, background: half } })
      .png()
      .toBuffer()
    expectNear(pixel(await run(bytes), 5, 5), [255, 127, 127], 1)
  })

  it('reads CMYK', async () => {
    const brick: Colour = [150, 90, 80]
    const bytes = await plain(brick).toColourspace('cmyk').jpeg({ quality: 100 }).toBuffer()
    expect((await sharp(bytes).metadata()).space).toBe('cmyk')
    expectNear(pixel(await run(bytes), 5, 5), brick, 12)
  })

  it('scales 16 bits down to 8, with colours and without', async () => {
    const wide = new Uint16Array(side * side * 3).fill(128 * 257)
    const source = sharp(wide, { raw: { width: side, height: side, channels: 3 } })
    const colour = await source.clone().toColourspace('rgb16').png().toBuffer()
    const grey = await source.clone().toColourspace('grey16').png().toBuffer()
    expect((await sharp(colour).metadata()).depth).toBe('ushort')
    expect((await sharp(grey).metadata()).channels).toBe(1)
    expectNear(pixel(await run(colour), 5, 5), [128, 128, 128], 1)
    expectNear(pixel(await run(grey), 5, 5), [128, 128, 128], 1)
  })

  it('reads grey, grey with alpha and palettes', async () => {
    const grey = await plain([77, 77, 77]).toColourspace('b-w').png().toBuffer()
    expect((await sharp(grey).metadata()).channels).toBe(1)
    expect(pixel(await run(grey), 1, 1)).toEqual([77, 77, 77])
    const greyAlpha = await sharp(grey).ensureAlpha(0).toColourspace('b-w').png().toBuffer()
    expect((await sharp(greyAlpha).metadata()).channels).toBe(2)
    expect(pixel(await run(greyAlpha), 1, 1)).toEqual([255, 255, 255])
    const palette = await plain(red).png({ palette: true }).toBuffer()
    expectNear(pixel(await run(palette), 1, 1), red, 1)
  })

  it.each(['gif', 'webp'] as const)('takes the first frame of an animated %s', async (format) => {
    const frames = await Promise.all([red, blue].map((colour) => plain(colour).png().toBuffer()))
    const bytes = await sharp(frames, { join: { animated: true } })
      .toFormat(format)
      .toBuffer()
    expect((await sharp(bytes).metadata()).pages).toBe(2)
    expectNear(pixel(await run(bytes), 16, 16), red, 6)
  })
})

/** A PNG whose header claims a size and whose pixels are missing. */
function pngHeader(width: number, height: number): Buffer {
  const chunk = (type: string, data: Buffer) => {
    const body = Buffer.concat([Buffer.from(type), data])
    const out = Buffer.alloc(body.length + 8)
    out.writeUInt32BE(data.length, 0)
    out.set(body, 4)
    out.writeUInt32BE(crc32(body), body.length + 4)
    return out
  }
  const header = Buffer.alloc(13)
  header.writeUInt32BE(width, 0)
  header.writeUInt32BE(height, 4)
  header.set([8, 2, 0, 0, 0], 8)
  const signature = Buffer.from('\x89PNG\r\n\x1a\n', 'latin1')
  return Buffer.concat([
    signature,
    chunk('IHDR', header),
    chunk('IDAT', Buffer.alloc(8)),
    chunk('IEND', Buffer.alloc(0)),
  ])
}

describe('preprocess refuses', () => {
  const svg =
    '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="9" height="9"/></svg>'
  const refused = (bytes: Uint8Array) => run(bytes).catch((error: unknown) => error)

  it.each([
    ['zero bytes', '', 400, 'image_invalid', /empty/],
    ['text', 'hello, this is not an image at all', 415, 'image_invalid', /JPEG, PNG/],
    ['SVG', svg, 415, 'image_invalid', /SVG/],
    ['SVG with a prolog', `<?xml version="1.0"?>\n<!-- x -->${svg}`, 415, 'image_invalid', /SVG/],
    ['PDF', '%PDF-1.7 and so on, and so on', 415, 'image_invalid', /PDF/],
    ['a bare HEIC signature', '\0\0\0\x18ftypheic\0\0\0\0mif1heic', 400, 'image_invalid', /corrupt/],
    ['a video', '\0\0\0\x18ftypmp42\0\0\0\0isommp42', 415, 'image_invalid', /MP4 video.*frame/],
    ['a camera RAW', 'II*\0\x10\0\0\0CR\x02\0', 415, 'image_invalid', /RAW.*Develop it/],
    ['HTML', '<!doctype html><html><title>404</title></html>', 415, 'image_invalid', /HTML/],
    ['an SVG behind a GIF signature', `GIF89a\x01\0\x01\0${svg}`, 400, 'image_invalid', /truncated/],
    ['a bare JPEG signature', '\xff\xd8\xff', 400, 'image_invalid', /truncated/],
  ])('%s', async (_, text, status, code, message) => {
    expect(await refused(Buffer.from(text, 'latin1'))).toMatchObject({
      name: 'ImageError',
      status,
      code,
      message: expect.stringMatching(message),
      retriable: false,
    })
  })

  it('a header that claims more than what is set', async () => {
    expect(await refused(pngHeader(60_000, 60_000))).toMatchObject({ status: 413, code: 'image_too_large' })
    const options = { maxPixels: 64_000_000 }
    const target = new Uint8Array(side * side * 3)
    await expect(preprocess(pngHeader(8_001, 8_000), spec, target, options)).rejects.toMatchObject({
      status: 413,
      code: 'image_too_large',
    })
    // The largest that passes the header check fails on its missing pixels instead.
    expect(await refused(pngHeader(8_000, 8_000))).toMatchObject({ status: 400, code: 'image_invalid' })
  })

  it.each(['png', 'jpeg', 'webp', 'gif', 'tiff', 'avif'] as const)('a truncated %s', async (format) => {
    const noise = { type: 'gaussian', mean: 128, sigma: 40 } as const
    const bytes = await sharp({
      create: { width: 200, height: 150, channels: 3, background: 'black', noise },
    })
      .toFormat(format)
      .toBuffer()
    await expect(run(bytes)).resolves.toHaveLength(side * side * 3)
    expect(await refused(bytes.subarray(0, Math.floor(bytes.length * 0.6)))).toMatchObject({
      status: 400,
      code: 'image_invalid',
    })
  })

  it('corrupt pixels, and leaves the target as it was', async () => {
    const png = await raw(gradient, side, side).png().toBuffer()
    png.fill(0x55, 60, 120)
    const target = new Uint8Array(side * side * 3).fill(9)
    await expect(preprocess(png, spec, target)).rejects.toMatchObject({ code: 'image_invalid' })
    expect(target.every((value) => value === 9)).toBe(true)
  })

  it('a broken file of a format that is read in a thread, and goes on', async () => {
    const whole = await readFile(new URL('plain.heic', fixtures))
    const broken = Buffer.from(whole).fill(0x55, whole.length >> 1)
    for (let time = 0; time < 2; time++) {
      const read = [broken, whole, broken.subarray(0, 40), whole].map((bytes) => refused(bytes))
      const wrong = expect.objectContaining({ code: 'image_invalid', status: 400 })
      const right = expect.any(Uint8Array)
      expect(await Promise.all(read)).toEqual([expect.anything(), right, wrong, right])
    }
  })

  it('a target of the wrong size', async () => {
    const png = await plain(red).png().toBuffer()
    await expect(preprocess(png, spec, new Uint8Array(5))).rejects.toThrow(RangeError)
  })
})

describe('a file whose end is missing', () => {
  const ramp = paint(200, 150, (x, y) => [x, y, (x * y) % 256])
  const encoders: Record<string, () => Promise<Buffer>> = {
    JPEG: () => raw(ramp, 200, 150).jpeg().toBuffer(),
    'progressive JPEG': () => raw(ramp, 200, 150).jpeg({ progressive: true }).toBuffer(),
    'turned JPEG': () => raw(ramp, 200, 150).withMetadata({ orientation: 6 }).jpeg().toBuffer(),
    PNG: () => raw(ramp, 200, 150).png().toBuffer(),
    GIF: () => raw(ramp, 200, 150).gif().toBuffer(),
    WebP: () => raw(ramp, 200, 150).webp().toBuffer(),
    TIFF: () => raw(ramp, 200, 150).tiff({ compression: 'lzw' }).toBuffer(),
    AVIF: () => raw(ramp, 200, 150).avif({ effort: 0 }).toBuffer(),
    BMP: () => readFile(new URL('24-bit.bmp', fixtures)),
    HEIC: () => readFile(new URL('plain.heic', fixtures)),
  }
  const cut = async (format: string, share: number) => {
    const bytes = await encoders[format]!()
    return bytes.subarray(0, share < 1 ? Math.floor(bytes.length * share) : bytes.length - share)
  }
  const decode = async (bytes: Uint8Array, options?: PreprocessOptions) => {
    const target = new Uint8Array(side * side * 3)
    const { warnings } = await preprocess(bytes, spec, target, options)
    return { target, warnings }
  }

  it.each(Object.keys(encoders))('is refused with what to do, a %s', async (format) => {
    await expect(decode(await cut(format, 0.7))).rejects.toMatchObject({
      status: 400,
      code: 'image_invalid',
      message: expect.stringMatching(/^The image is truncated: .*TURBINE_TRUNCATED=accept/),
    })
  })

  it.each([
    ['JPEG', 2],
    ['JPEG', 0.7],
    ['progressive JPEG', 0.7],
    ['turned JPEG', 0.7],
    ['PNG', 0.8],
    ['GIF', 0.8],
  ])('is accepted where that is set, and says so: a %s less %d', async (format, share) => {
    const whole = await decode(await encoders[format]!(), { truncated: 'accept' })
    expect(whole.warnings).toEqual([])
    const part = await decode(await cut(format, share), { truncated: 'accept' })
    expect(part.warnings).toEqual(['truncated'])
    expectNear(pixel(part.target, side - 2, 2), pixel(whole.target, side - 2, 2) as Colour, 40)
  })

  it.each([
    ['JPEG', 0.3, /Less than half/],
    ['turned JPEG', 0.3, /Less than half/],
    ['PNG', 0.3, /Less than half/],
    ['GIF', 0.2, /Less than half/],
    ['WebP', 0.7, /What there is of this WebP cannot be decoded/],
    ['TIFF', 0.7, /cannot be decoded/],
    ['AVIF', 0.7, /cannot be decoded/],
    ['HEIC', 0.7, /cannot be decoded/],
  ])('is refused all the same: a %s of which %d is there', async (format, share, message) => {
    await expect(decode(await cut(format, share), { truncated: 'accept' })).rejects.toMatchObject({
      code: 'image_invalid',
      message: expect.stringMatching(message),
    })
  })

  it('is another thing than a corrupt one, which no setting accepts', async () => {
    const png = await raw(gradient, side, side).png().toBuffer()
    png.fill(0x55, 60, 120)
    await expect(decode(png, { truncated: 'accept' })).rejects.toMatchObject({
      message: expect.stringMatching(/^The PNG is corrupt/),
    })
  })
})
