import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { type PictureRule, pictureBytes } from '../models/pictures.ts'
import { type PreprocessOptions, preprocess } from './preprocess.ts'

const rules: PictureRule[] = [
  { kind: 'squash', width: 64, height: 48, resample: 'bicubic', exact: true },
  { kind: 'crop', shortest: 56, height: 48, width: 56, resample: 'bicubic' },
  { kind: 'pad', side: 64, resample: 'bicubic', background: [255, 255, 255] },
  { kind: 'tiles', longestEdge: 192, tile: 64, split: true, resample: 'lanczos3' },
  { kind: 'patches', patch: 8, merge: 2, minPixels: 1024, maxPixels: 16_000, resample: 'bicubic' },
]

/** Waves of colour, as photos have them: neither flat nor noise. */
function waves(width: number, height: number) {
  const data = Buffer.alloc(width * height * 3)
  for (let y = 0, at = 0; y < height; y++)
    for (let x = 0; x < width; x++, at += 3) {
      data[at] = 128 + 100 * Math.sin((9 * x) / width)
      data[at + 1] = 128 + 100 * Math.cos((7 * y) / height)
      data[at + 2] = 128 + 100 * Math.sin((5 * (x + y)) / width)
    }
  return sharp(data, { raw: { width, height, channels: 3 } })
}

async function decoded(file: Uint8Array, rule: PictureRule, decode: PreprocessOptions['decode']) {
  let pixels = new Uint8Array(0)
  const target: Parameters<typeof preprocess>[2] = (shape) => {
    pixels = new Uint8Array(pictureBytes(rule, shape))
    return pixels
  }
  return { ...(await preprocess(file, rule, target, { decode })), pixels }
}

const jpeg = (width: number, height: number) => waves(width, height).jpeg({ quality: 92 })
const large = await waves(1603, 1201).jpeg({ quality: 92 }).toBuffer()

const larger: [string, Buffer][] = [
  ['upright', large],
  ['turned', await jpeg(1201, 1603).withMetadata({ orientation: 6 }).toBuffer()],
  ['progressive', await jpeg(1603, 1201).jpeg({ progressive: true }).toBuffer()],
  ['grey', await jpeg(1603, 1201).greyscale().toBuffer()],
]
const others: [string, Buffer][] = [
  ['a JPEG below four times the size', await jpeg(150, 110).toBuffer()],
  ['a large PNG', await waves(1603, 1201).png().toBuffer()],
]

describe.each(rules)('fast decoding: $kind', (rule) => {
  it.each(larger)('is near the exact one, of the same shape: %s', async (_, file) => {
    const [exact, fast] = [await decoded(file, rule, 'exact'), await decoded(file, rule, 'fast')]
    expect({ ...fast, pixels: 0 }).toEqual({ ...exact, pixels: 0 })
    const difference = fast.pixels.reduce((sum, value, i) => sum + Math.abs(value - exact.pixels[i]!), 0)
    expect(difference / exact.pixels.length).toBeLessThan(1.5)
    // It is another way.
    expect(Buffer.compare(fast.pixels, exact.pixels)).not.toBe(0)
  })

  it.each(others)('is the exact one for %s', async (_, file) => {
    const [exact, fast] = [await decoded(file, rule, 'exact'), await decoded(file, rule, 'fast')]
    expect(Buffer.compare(fast.pixels, exact.pixels)).toBe(0)
  })

  it('refuses a JPEG that is cut, as the exact one', async () => {
    const cut = large.subarray(0, large.length >> 1)
    for (const decode of ['exact', 'fast'] as const)
      await expect(decoded(cut, rule, decode)).rejects.toMatchObject({ code: 'image_invalid' })
  })
})
