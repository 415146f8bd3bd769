import sharp from 'sharp'
import { describe, expect, it } from 'vitest'
import { pictureFile, reference } from '../models/pictures.fixture.ts'
import { type PictureRule, pictureBytes, type SquashRule } from '../models/pictures.ts'
import { layOut, scalingOf } from './layout.ts'
import { preprocess } from './preprocess.ts'
import { resize } from './resample.ts'

const rules: Record<string, PictureRule> = {
  squash: { kind: 'squash', height: 56, width: 72, resample: 'bilinear', exact: true },
  crop: { kind: 'crop', shortest: 64, height: 48, width: 56, resample: 'bicubic' },
  tiles: { kind: 'tiles', longestEdge: 192, tile: 64, split: true, resample: 'lanczos3' },
  whole: { kind: 'tiles', longestEdge: 192, tile: 64, split: false, resample: 'lanczos3' },
  patches: { kind: 'patches', patch: 8, merge: 2, minPixels: 1024, maxPixels: 9216, resample: 'bicubic' },
  pad: { kind: 'pad', side: 64, resample: 'bicubic', background: [255, 255, 255] },
}

async function pixelsOf(bytes: Uint8Array, rule: PictureRule) {
  let pixels = new Uint8Array(0)
  const { shape } = await preprocess(bytes, rule, (shape) => {
    pixels = new Uint8Array(pictureBytes(rule, shape))
    return pixels
  })
  return { pixels, shape }
}

const raw = (png: Uint8Array) => sharp(png).removeAlpha().raw().toBuffer()

function differenceOf(actual: Uint8Array, expected: Uint8Array) {
  expect(actual.length).toBe(expected.length)
  let sum = 0
  let most = 0
  for (let at = 0; at < actual.length; at++) {
    const difference = Math.abs(actual[at]! - expected[at]!)
    sum += difference
    most = Math.max(most, difference)
  }
  return { mean: sum / actual.length, most }
}

describe('pixels of a picture', () => {
  it.each(reference.cases)('$picture by the rule of $rule are those of Hugging Face', async (given) => {
    const rule = rules[given.rule]!
    const { pixels, shape } = await pixelsOf(pictureFile(given.picture), rule)
    expect(shape.count).toBe(given.count)
    const expected = await raw(pictureFile(`${given.picture}-${given.rule}`))
    // What is shrunk by much is not exact, where that would take long.
    const { mean, most } = differenceOf(pixels, expected)
    expect(mean).toBeLessThan(given.picture === '500x380' && given.rule === 'tiles' ? 0.01 : 1e-9)
    expect(most).toBeLessThan(3)
  })

  it.each([
    ['squash', 96, 72],
    ['tiles', 0, 0],
    ['pad', 0, 0],
    ['crop', 0, 0],
    ['patches', 0, 0],
  ] as const)('of a large one are near, by the rule of %s', async (name, width, height) => {
    // Too large to be exact in time: shrunk by libvips.
    const large = await sharp(pictureFile('500x380')).resize(2000, 1520, { kernel: 'cubic' }).png().toBuffer()
    const rule: PictureRule = width ? { ...(rules.squash as SquashRule), width, height } : rules[name]!
    const { pixels } = await pixelsOf(large, rule)
    const { data, info } = await sharp(large).removeAlpha().raw().toBuffer({ resolveWithObject: true })
    const exact = new Uint8Array(pixels.length)
    const { x, y, resample, border } = scalingOf(rule, info)
    await layOut(resize({ data, ...info }, x, y, resample, border), rule, info, exact)
    const { mean, most } = differenceOf(pixels, exact)
    expect(mean).toBeGreaterThan(0)
    expect(mean).toBeLessThan(0.3)
    expect(most).toBeLessThan(10)
  })

  it.each([1, 2, 3, 4, 5, 6, 7, 8])('are of the picture in its orientation %i', async (orientation) => {
    const rule = rules.crop!
    const stored = await sharp(pictureFile('160x120')).withMetadata({ orientation }).png().toBuffer()
    const turned = await sharp(stored, { autoOrient: true }).png().toBuffer()
    const [{ pixels }, expected] = [await pixelsOf(stored, rule), await pixelsOf(turned, rule)]
    expect(differenceOf(pixels, expected.pixels).most).toBe(0)
  })

  it.each([
    ['crop', 60_000, 3],
    ['crop', 3, 60_000],
    ['pad', 60_000, 3],
    ['tiles', 60_000, 3],
  ] as const)('of a very long one take no more memory: %s of %i x %i', async (name, width, height) => {
    const line = await sharp({ create: { width, height, channels: 3, background: '#123456' } })
      .png()
      .toBuffer()
    const before = process.memoryUsage().arrayBuffers
    const { pixels } = await pixelsOf(line, rules[name]!)
    const middle = pixels.length >> 1
    expect([...pixels.subarray(middle - (middle % 3), middle - (middle % 3) + 3)]).toHaveLength(3)
    expect(process.memoryUsage().arrayBuffers - before).toBeLessThan(20e6)
  })

  it('of a slice are refused where the model refuses it', async () => {
    const line = await sharp({ create: { width: 900, height: 3, channels: 3, background: 'red' } })
      .png()
      .toBuffer()
    await expect(pixelsOf(line, rules.patches!)).rejects.toMatchObject({ code: 'image_invalid', status: 400 })
  })
})
