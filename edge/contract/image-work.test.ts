import { readFile } from 'node:fs/promises'
import fc from 'fast-check'
import sharp from 'sharp'
import { describe, expect, it, test } from 'vitest'
import {
  avifHeader,
  gifOfFrames,
  jpegOfScans,
  noise,
  tiffOf,
} from '../../processor/decoding/hostile.fixture.ts'
import { flatPng, pngChunk } from '../../test/hostile/images.ts'
import { pngHeader } from '../app.fixture.ts'
import { ImageError } from './errors.ts'
import { checkImage, defaultDecodeBytes, defaultImageLimits } from './image.ts'
import { imageWork, maxFrames, maxScans } from './image-work.ts'

const refusal = (bytes: Uint8Array) => {
  try {
    checkImage(bytes)
    return undefined
  } catch (error) {
    return error
  }
}
/** Only what callers are to be told comes out. */
function checkIfAccepted(bytes: Uint8Array): void {
  const error = refusal(bytes)
  if (error !== undefined && !(error instanceof ImageError)) throw error
}
const tooComplex = (message: RegExp) =>
  expect.objectContaining({
    code: 'image_too_complex',
    status: 413,
    message: expect.stringMatching(message),
  })

describe('scans of a JPEG', () => {
  it('are one where it is sequential', async () => {
    expect(checkImage(await noise().jpeg().toBuffer())).toMatchObject({ scans: 1 })
  })

  it('are counted to the end of the image, not in what is behind or in its thumbnail', async () => {
    const jpeg = await noise().jpeg({ progressive: true }).toBuffer()
    const scan = Buffer.from([0xff, 0xda, 0, 2])
    const behind = Buffer.concat([jpeg, ...Array<Buffer>(500).fill(scan)])
    const segment = Buffer.concat([Buffer.from([0xff, 0xe1, 0x03, 0xea]), ...Array<Buffer>(250).fill(scan)])
    const within = Buffer.concat([jpeg.subarray(0, 2), segment, jpeg.subarray(2)])
    const { scans } = checkImage(jpeg)!
    expect(scans).toBeGreaterThan(5)
    expect(checkImage(behind)).toMatchObject({ scans })
    expect(checkImage(within)).toMatchObject({ scans })
  })

  it('are bounded', async () => {
    expect(refusal(await jpegOfScans(80))).toBeUndefined()
    expect(refusal(await jpegOfScans(20_000))).toEqual(tooComplex(/more than 100 scans/))
  })

  it('cost a pass and the coefficients of all pixels', async () => {
    const bytes = await noise().jpeg({ progressive: true, chromaSubsampling: '4:4:4' }).toBuffer()
    const work = imageWork({ format: 'JPEG', bytes, width: 4000, height: 3000 })
    expect(work.memoryBytes).toBeGreaterThan(4000 * 3000 * 3 * 2)
    const sequential = imageWork({
      format: 'JPEG',
      bytes: await noise().jpeg().toBuffer(),
      width: 4000,
      height: 3000,
    })
    expect(sequential.memoryBytes).toBeLessThan(work.memoryBytes / 2)
    expect(sequential.cpuMs).toBeLessThan(work.cpuMs / 2)
  })
})

describe('time', () => {
  const cpuMs = (chunks: Buffer[]) =>
    imageWork({ format: 'PNG', bytes: flatPng({ width: 8, height: 8, before: chunks }), width: 8, height: 8 })
      .cpuMs
  const chunk = (type: string, bytes: number) => pngChunk(type, Buffer.alloc(bytes))
  const many = (count: number, type: string, bytes: number) =>
    Array.from({ length: count }, () => chunk(type, bytes))

  it.each(['zTXt', 'iTXt', 'iCCP'])('of a PNG is that of what its %s chunks unpack to', (type) => {
    expect(cpuMs(many(40, type, 7700))).toBeGreaterThan(500)
    expect(cpuMs([chunk(type, 3000)])).toBeLessThan(20)
  })

  it('of a PNG is that of its chunks, and not of their length', () => {
    expect(cpuMs(many(300_000, 'eXIf', 0))).toBeGreaterThan(250)
    expect(cpuMs([chunk('eXIf', 1_000_000)])).toBeLessThan(1)
  })
})

describe('memory', () => {
  it('of an interlaced PNG is the whole picture', async () => {
    const bytes = await noise().png({ progressive: true }).toBuffer()
    expect(imageWork({ format: 'PNG', bytes, width: 8000, height: 8000 }).memoryBytes).toBeGreaterThan(192e6)
  })

  it('of a TIFF is that of its strips and tiles, however small the picture', () => {
    const size: [number, number][] = [
      [256, 100],
      [257, 100],
    ]
    const tiled = tiffOf([...size, [322, 60_000], [323, 60_000]])
    expect(refusal(tiled)).toEqual(
      tooComplex(/Decoding the image takes \d+ MB; at most 672 MB .*TURBINE_DECODE_MEMORY_MB/),
    )
    expect(refusal(tiffOf(size))).toBeUndefined()
  })

  it('of a large AVIF is more than is given', async () => {
    const avif = await avifHeader(8100)
    expect(avif.length).toBeLessThan(2000)
    expect(refusal(avif)).toEqual(tooComplex(/Decoding the image takes/))
    expect(() =>
      checkImage(avif, 'image', { ...defaultImageLimits, maxDecodeBytes: 2 * defaultDecodeBytes }),
    ).not.toThrow()
  })

  it.each([
    ['a JPEG of 200 megapixels, which is shrunk while it is read', 'JPEG', 16_320, 12_240, 64e6],
    ['a HEIC of 24 megapixels', 'HEIC', 5712, 4284, defaultDecodeBytes],
    ['a JPEG XL of 24 megapixels', 'JPEG XL', 6000, 4000, defaultDecodeBytes],
    ['a BMP of 24 megapixels', 'BMP', 6000, 4000, defaultDecodeBytes],
  ])('of %s is given', async (_, format, width, height, most) => {
    const bytes =
      format === 'JPEG' ? await noise().jpeg().toBuffer() : Buffer.from('hvcC'.padEnd(64, '\0'), 'latin1')
    const { memoryBytes, libraryBytes } = imageWork({ format, bytes, width, height })
    expect(memoryBytes + libraryBytes).toBeLessThan(most)
  })
})

test('frames and pages are bounded', async () => {
  const animated = await sharp([await noise().png().toBuffer(), await noise().png().toBuffer()], {
    join: { animated: true },
  })
    .webp()
    .toBuffer()
  expect(checkImage(animated)).toMatchObject({ frames: 2 })
  expect(checkImage(gifOfFrames(3))).toMatchObject({ frames: 3 })
  expect(refusal(gifOfFrames(maxFrames + 1))).toEqual(tooComplex(/frames/))
  const page: [number, number][] = [
    [256, 9],
    [257, 9],
  ]
  expect(checkImage(tiffOf(page, 4))).toMatchObject({ frames: 4 })
  expect(refusal(tiffOf(page, maxFrames + 1))).toEqual(tooComplex(/pages/))
  const frame = Buffer.from('ANMF\x10\0\0\0'.padEnd(24, '\0'), 'latin1')
  const head = animated.subarray(0, 30)
  expect(refusal(Buffer.concat([head, ...Array<Buffer>(maxFrames + 1).fill(frame)]))).toEqual(
    tooComplex(/frames/),
  )
})

test.each([
  ['a JPEG of segments', [0xff, 0xd8, 0xff], [0xff, 0xe2, 0, 2]],
  ['a JPEG of padding', [0xff, 0xd8, 0xff], [0xff]],
  ['a JPEG of data', [0xff, 0xd8, 0xff, 0xc2, 0, 2], [0xff, 0, 7]],
  ['a GIF of blocks', [...Buffer.from('GIF89a\x09\0\x09\0\0\0\0!\xfe', 'latin1')], [1, 1]],
])('of %s only so much is looked at', (_, head, repeated) => {
  const length = 20_000_000
  const bytes = Buffer.alloc(length, Buffer.from(repeated))
  bytes.set(head)
  let read = 0
  const counted = new Proxy(bytes, {
    get(target, key) {
      if (key === 'length') return length
      if (key === 'indexOf') return target.indexOf.bind(target)
      if (key === 'subarray') return target.subarray.bind(target)
      read++
      return Reflect.get(target, key)
    },
  })
  imageWork({ format: head[0] === 0xff ? 'JPEG' : 'GIF', bytes: counted, width: 9, height: 9 })
  expect(read).toBeGreaterThan(100_000)
  expect(read).toBeLessThan(6_000_000)
})

test('a side is bounded, long pictures pass', () => {
  expect(refusal(pngHeader(1, 64_000_000))).toMatchObject({ code: 'image_too_large', status: 413 })
  expect(refusal(pngHeader(65_536, 10))).toMatchObject({ code: 'image_too_large' })
  for (const [width, height] of [
    [800, 30_000],
    [30_000, 1000],
    [65_535, 900],
  ])
    expect(refusal(pngHeader(width!, height!))).toBeUndefined()
})

test('whatever is in the header, the work is a number and little is read of it', async () => {
  const formats = { JPEG: 'jpeg', PNG: 'png', WebP: 'webp', GIF: 'gif', TIFF: 'tiff', AVIF: 'avif' } as const
  const folder = new URL('../../test/fixtures/formats/', import.meta.url)
  const others = {
    HEIC: 'grid.heic',
    BMP: '4-bit-rle.bmp',
    'JPEG XL': 'container.jxl',
    'JPEG 2000': 'alpha.jp2',
    TIFF: 'int16-rgb.tif',
    GIF: 'frame-inside.gif',
  }
  const heads = await Promise.all([
    ...Object.entries(formats).map(async ([format, name]) => ({
      format,
      bytes: await noise(20, 20).toFormat(name).toBuffer(),
    })),
    ...Object.entries(others).map(async ([format, name]) => ({
      format,
      bytes: await readFile(new URL(name, folder)),
    })),
  ])
  const change = fc.tuple(fc.nat(2000), fc.integer({ min: 0, max: 255 }))
  fc.assert(
    fc.property(
      fc.constantFrom(...heads),
      fc.array(change, { maxLength: 20 }),
      fc.nat(2000),
      ({ format, bytes }, changes, length) => {
        const mutated = new Uint8Array(bytes.subarray(0, Math.max(16, length)))
        for (const [at, byte] of changes) if (at > 3 && at < mutated.length) mutated[at] = byte
        const work = imageWork({ format, bytes: mutated, width: 100, height: 100 })
        expect(() => checkIfAccepted(mutated)).not.toThrow()
        for (const value of Object.values(work)) expect(value).toBeGreaterThanOrEqual(0)
        expect(work.scans).toBeLessThanOrEqual(maxScans + 1)
        expect(work.frames).toBeLessThanOrEqual(maxFrames + 1)
      },
    ),
    { numRuns: 500 },
  )
})
