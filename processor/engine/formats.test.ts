import { readdirSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { preprocess } from './preprocess.ts'

/** Pictures of every kind, each with what the reference makes of it beside it: see make-formats.py. */
const folder = new URL('../../test/fixtures/formats/', import.meta.url)
const names = readdirSync(folder)
const decoded = names.filter((name) => names.includes(`${name}.png`))
const fileOf = (name: string) => readFile(new URL(name, folder))

/** Mean difference of a value where it is not rounding. */
const tolerances: Readonly<Record<string, number>> = {
  // Pillow shows the first frame of the sequence, this the still picture, which is coded once more.
  'animated.avif': 5,
  'ten-bits.heic': 1,
  'lab.tif': 1.5,
}

describe('decodes as the reference does', () => {
  it.each(decoded)('%s', async (name) => {
    const reference = sharp(await fileOf(`${name}.png`))
      .removeAlpha()
      .raw()
    const { data, info } = await reference.toBuffer({ resolveWithObject: true })
    const pixels = new Uint8Array(data.length)
    const { width, height } = info
    await preprocess(await fileOf(name), { kind: 'squash', width, height, resample: 'bicubic' }, pixels)
    const difference = pixels.reduce((sum, value, index) => sum + Math.abs(value - data[index]!), 0)
    expect(difference / data.length).toBeLessThan(tolerances[name] ?? 0.5)
  })
})

describe('refuses by its name', () => {
  it.each([
    ['float16.tif', /floats of 16 bits.*Save it/],
    ['float64.tif', /floats of 64 bits.*Save it/],
    ['complex.tif', /complex numbers.*Save/],
    ['zstd.tif', /Zstandard.*Save it/],
    ['lzma.tif', /LZMA.*Save it/],
    ['lerc.tif', /LERC.*Save it/],
    ['png.tif', /compressed with PNG.*Save it/],
    ['jpeg2000.tif', /JPEG 2000.*Save it/],
    ['jpegxl.tif', /JPEG XL.*Save it/],
  ])('%s', async (name, message) => {
    const spec = { kind: 'squash', width: 9, height: 9, resample: 'bicubic' } as const
    await expect(preprocess(await fileOf(name), spec, new Uint8Array(9 * 9 * 3))).rejects.toMatchObject({
      code: 'image_invalid',
      status: 415,
      message: expect.stringMatching(message),
    })
  })
})
