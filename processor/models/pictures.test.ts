import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import fc from 'fast-check'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { reference } from './pictures.fixture.ts'
import {
  limitPixels,
  mostPictureBytes,
  type PictureRule,
  pictureBytes,
  readPictureConfig,
  shapeOf,
  sizesOf,
} from './pictures.ts'

let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'turbine-pictures-'))
})
afterAll(() => rm(folder, { recursive: true }))

const kinds = ['squash', 'crop', 'pad', 'tiles', 'patches'] as const
async function read(config: unknown, accepted: readonly PictureRule['kind'][] = kinds) {
  const text = typeof config === 'string' ? config : JSON.stringify(config)
  await writeFile(join(folder, 'preprocessor_config.json'), text)
  return readPictureConfig(folder, accepted)
}

const smolvlm: PictureRule = {
  kind: 'tiles',
  longestEdge: 2048,
  tile: 512,
  split: true,
  resample: 'lanczos3',
}
const clip: PictureRule = { kind: 'crop', shortest: 224, height: 224, width: 224, resample: 'bicubic' }
const qwen: PictureRule = {
  kind: 'patches',
  ...{ patch: 14, merge: 2, minPixels: 56 * 56, maxPixels: 28 * 28 * 1280, resample: 'bicubic' },
}

describe('shapeOf', () => {
  it('is as the processors of Hugging Face have it, for sizes of all kinds', () => {
    for (const [width, height, [rows, cols], shortest, patches] of reference.sizes) {
      const size = `${width} x ${height}`
      const count = rows === 0 ? 1 : rows * cols + 1
      expect(shapeOf(smolvlm, width, height), size).toEqual({ count, rows, cols })
      const [scaled] = sizesOf(clip, { width, height })
      expect([scaled!.height, scaled!.width], size).toEqual(shortest)
      if (patches === null) expect(() => shapeOf(qwen, width, height), size).toThrow(/200 times/)
      else
        expect(shapeOf(qwen, width, height), size).toEqual({
          count: patches[0] * patches[1],
          rows: patches[0],
          cols: patches[1],
        })
    }
  })

  const side = fc.integer({ min: 1, max: 65_535 })
  const rules: fc.Arbitrary<PictureRule> = fc.oneof(
    fc.record({
      kind: fc.constant('tiles' as const),
      longestEdge: fc.integer({ min: 1, max: 8192 }),
      tile: fc.integer({ min: 256, max: 1024 }),
      split: fc.boolean(),
      resample: fc.constant('lanczos3' as const),
    }),
    fc
      .record({
        kind: fc.constant('patches' as const),
        patch: fc.integer({ min: 1, max: 32 }),
        merge: fc.integer({ min: 1, max: 4 }),
        minPixels: fc.integer({ min: 1, max: 1_000_000 }),
        maxPixels: fc.integer({ min: 20_000, max: 17_000_000 }),
        resample: fc.constant('bicubic' as const),
      })
      .filter(({ minPixels, maxPixels }) => minPixels <= maxPixels),
  )

  it('is whole and bounded, whatever the rule and the size', () => {
    fc.assert(
      fc.property(
        rules,
        side,
        side,
        fc.option(fc.integer({ min: 1, max: 5_000_000 })),
        (rule, w, h, limit) => {
          fc.pre(rule.kind === 'tiles' || Math.max(w, h) / Math.min(w, h) <= 200)
          const limited = limitPixels(rule, limit ?? undefined)
          const shape = shapeOf(limited, w, h)
          expect(Number.isInteger(shape.count) && shape.count >= 1).toBe(true)
          expect(Number.isInteger(shape.rows) && Number.isInteger(shape.cols)).toBe(true)
          if (limited.kind === 'patches') {
            expect([shape.rows % limited.merge, shape.cols % limited.merge]).toEqual([0, 0])
            expect(shape.count).toBe(shape.rows * shape.cols)
          }
          expect(pictureBytes(limited, shape)).toBeLessThanOrEqual(mostPictureBytes(limited))
          expect(mostPictureBytes(limited)).toBeLessThanOrEqual(mostPictureBytes(rule))
        },
      ),
      { numRuns: 2000 },
    )
  })
})

it('counts the tiles of a side that is rounded up to an even number', () => {
  const odd: PictureRule = { kind: 'tiles', longestEdge: 343, tile: 343, split: true, resample: 'lanczos3' }
  expect(shapeOf(odd, 14, 14)).toEqual({ count: 5, rows: 2, cols: 2 })
  expect(pictureBytes(odd, shapeOf(odd, 14, 14))).toBeLessThanOrEqual(mostPictureBytes(odd))
})

describe('limitPixels', () => {
  it.each([
    [qwen, 300_000, { maxPixels: 300_000 }],
    [qwen, 10, { maxPixels: 3136 }],
    [qwen, 1e9, { maxPixels: 1_003_520 }],
    [smolvlm, 1024 * 1024, { longestEdge: 1024 }],
    [smolvlm, 1, { longestEdge: 512 }],
    [smolvlm, 1e9, { longestEdge: 2048 }],
    [clip, 1, clip],
  ])('%o, %d', (rule, pixels, expected) => {
    expect(limitPixels(rule, pixels)).toMatchObject(expected)
  })
})

describe('readPictureConfig', () => {
  it.each([
    ['squash', { kind: 'squash', height: 56, width: 72, resample: 'bilinear' }],
    ['crop', { kind: 'crop', shortest: 64, height: 48, width: 56, resample: 'bicubic' }],
    ['tiles', { kind: 'tiles', longestEdge: 192, tile: 64, split: true, resample: 'lanczos3' }],
    ['whole', { kind: 'tiles', split: false }],
    ['patches', { kind: 'patches', patch: 8, merge: 2, minPixels: 1024, maxPixels: 9216 }],
  ])('reads the rule of %s', async (name, rule) => {
    expect((await read(reference.configs[name])).rule).toMatchObject(rule)
  })

  const vit = { image_processor_type: 'ViTImageProcessor' }
  const clipType = { image_processor_type: 'CLIPImageProcessor' }
  const qwenType = { image_processor_type: 'Qwen2VLImageProcessorFast' }
  it.each([
    ['a number as a square', { ...vit, size: 384 }, { kind: 'squash', height: 384, width: 384 }],
    [
      'a number as the shortest edge',
      { ...clipType, size: 336, crop_size: 336 },
      { kind: 'crop', shortest: 336 },
    ],
    [
      'the older name of a processor',
      { feature_extractor_type: 'ViTFeatureExtractor', size: 224 },
      { kind: 'squash', height: 224 },
    ],
    [
      'Florence-2',
      {
        ...clipType,
        size: { height: 768, width: 768 },
        do_center_crop: false,
        crop_size: { height: 768, width: 768 },
      },
      { kind: 'squash', height: 768, resample: 'bicubic' },
    ],
    [
      'SigLIP',
      { image_processor_type: 'SiglipImageProcessor', size: { height: 384, width: 384 }, resample: 2 },
      { kind: 'squash', width: 384, resample: 'bilinear' },
    ],
    [
      'a LLaVA with a border',
      {
        image_processor_type: 'LlavaImageProcessor',
        do_pad: true,
        size: { shortest_edge: 336 },
        crop_size: 336,
      },
      { kind: 'pad', side: 336, background: [122, 116, 104] },
    ],
    [
      'limits within the size',
      { ...qwenType, size: { shortest_edge: 5000, longest_edge: 90_000 } },
      { minPixels: 5000, maxPixels: 90_000 },
    ],
    [
      'limits with their names there',
      { ...qwenType, size: { min_pixels: 5000, max_pixels: 90_000 } },
      { maxPixels: 90_000 },
    ],
    [
      'limits of their own first',
      { ...qwenType, max_pixels: 80_000, size: { shortest_edge: 5000, longest_edge: 90_000 } },
      { maxPixels: 80_000 },
    ],
    [
      'the defaults of tiles',
      { image_processor_type: 'SmolVLMImageProcessor' },
      { longestEdge: 1456, tile: 364 },
    ],
  ])('takes %s', async (_, config, rule) => {
    expect((await read(config)).rule).toMatchObject(rule)
  })

  it('tells how pixels are normalised', async () => {
    expect((await read({ ...vit, size: 8 })).normalise).toEqual({
      mean: [0.5, 0.5, 0.5],
      std: [0.5, 0.5, 0.5],
      rescale: 1 / 255,
      channels: 'rgb',
    })
    const given = { image_mean: [0.1, 0.2, 0.3], image_std: 0.5, rescale_factor: 0.5 }
    expect((await read({ ...vit, size: 8, ...given })).normalise).toMatchObject({
      mean: [0.1, 0.2, 0.3],
      std: [0.5, 0.5, 0.5],
      rescale: 0.5,
    })
    const none = { do_normalize: false, do_rescale: false }
    expect((await read({ ...vit, size: 8, ...none })).normalise).toMatchObject({
      mean: [0, 0, 0],
      std: [1, 1, 1],
      rescale: 1,
    })
  })

  it.each([
    ['another family', { ...vit, size: 224 }, /ViTImageProcessor is the processor of another family/],
    [
      'an unknown processor',
      { image_processor_type: 'LlavaOnevisionImageProcessor' },
      /LlavaOnevision.* is not supported; supported: Blip/,
    ],
    ['a processor of the prototype', { image_processor_type: 'constructorImageProcessor' }, /not supported/],
    ['no processor', { size: 5 }, /image_processor_type is missing/],
    ['no JSON', '{', /is not JSON/],
    ['a list', '[]', /the file/],
    ['a size that is no number', { ...qwenType, size: 'large' }, /size/],
    ['a side of 0', { ...clipType, crop_size: 0 }, /crop_size/],
    ['a side that is not whole', { ...clipType, crop_size: 1.5 }, /crop_size/],
    ['a side beyond all models', { ...clipType, crop_size: 1e9 }, /crop_size/],
    ['pixels that are not resized', { ...qwenType, do_resize: false }, /do_resize is false/],
    [
      'a crop that is larger than the picture',
      { ...clipType, size: 100, crop_size: 224 },
      /larger than the shortest/,
    ],
    ['another kernel', { ...qwenType, resample: 4 }, /resample must be 0/],
    ['negative resampling', { ...qwenType, resample: -1 }, /resample must be 0/],
    ['a deviation of 0', { ...qwenType, image_std: [1, 0, 1] }, /image_std/],
    ['a deviation of next to 0', { ...qwenType, image_std: [1, 1e-320, 1] }, /make pixels of more than/],
    ['a mean without end', { ...qwenType, image_mean: [1e308, 0, 0] }, /make pixels of more than/],
    ['a rescaling without end', { ...qwenType, rescale_factor: 1e300 }, /make pixels of more than/],
    ['two means', { ...qwenType, image_mean: [0, 0] }, /image_mean/],
    [
      'limits that are crossed',
      { ...qwenType, min_pixels: 99_999, max_pixels: 9999 },
      /min_pixels is larger/,
    ],
    ['less than a token', { ...qwenType, min_pixels: 1, max_pixels: 100 }, /less than one token/],
    ['pixels without end', { ...qwenType, max_pixels: 1e12 }, /max_pixels/],
    ['patches without end', { ...qwenType, patch_size: 8000, max_pixels: 1e12 }, /an image would become/],
    [
      'tiles without end',
      {
        image_processor_type: 'Idefics3ImageProcessor',
        size: { longest_edge: 4096 },
        max_image_size: { longest_edge: 1 },
      },
      /tiles/,
    ],
    [
      'tiles of no size',
      { image_processor_type: 'Idefics3ImageProcessor', size: 5 },
      /size must have a longest_edge/,
    ],
  ])('refuses %s in one line', async (_, config, message) => {
    const accepted =
      config && (config as { size?: unknown }).size === 224
        ? (['crop'] as const)
        : (['tiles', 'patches', 'crop'] as const)
    const error = await read(config, accepted).catch((error: unknown) => error)
    expect(error).toMatchObject({ name: 'ModelFolderError', message: expect.stringMatching(message) })
    expect((error as Error).message).toMatch(/^[^\n]*preprocessor_config\.json[^\n]*$/)
  })

  it('refuses a folder without the file', async () => {
    await expect(readPictureConfig(join(folder, 'none'), kinds)).rejects.toThrow(
      /preprocessor_config\.json is missing/,
    )
  })
})
