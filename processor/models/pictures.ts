import { join } from 'node:path'
import { z } from 'zod'
import { ImageError } from '../../edge/contract/errors.ts'
import { ModelFolderError } from '../onnx/weights.ts'
import { readModelJson } from './model-file.ts'

/** Kernels that a Hugging Face `preprocessor_config.json` can name. */
export type Resample = 'nearest' | 'lanczos3' | 'bilinear' | 'bicubic'

/** Resized to one size, whatever the proportions (BLIP, ViT, SigLIP, Florence-2). */
export interface SquashRule {
  kind: 'squash'
  height: number
  width: number
  resample: Resample
  /** Whether it is enlarged bit for bit as Pillow does, and not as libvips can. */
  exact?: boolean
}

/** Resized by the shortest edge, then cut at its centre (CLIP). */
export interface CropRule {
  kind: 'crop'
  shortest: number
  height: number
  width: number
  resample: Resample
}

/** Put on a square of one colour, then resized (taggers, some LLaVA). */
export interface PadRule {
  kind: 'pad'
  side: number
  resample: Resample
  background: [red: number, green: number, blue: number]
}

/** Resized by the longest edge, cut into square tiles, and the whole as the last tile (Idefics3, SmolVLM). */
export interface TilesRule {
  kind: 'tiles'
  longestEdge: number
  tile: number
  split: boolean
  resample: Resample
}

/** Resized to whole patches within limits of pixels (Qwen2-VL). */
export interface PatchesRule {
  kind: 'patches'
  /** Side of a patch. */
  patch: number
  /** Patches on each side that become one token. */
  merge: number
  minPixels: number
  maxPixels: number
  resample: Resample
}

/** How an image becomes the pixels that a model takes. */
export type PictureRule = SquashRule | CropRule | PadRule | TilesRule | PatchesRule

/** What an image became. Its pixels are `uint8 [count, height, width, 3]`, or of patches `uint8 [count, 3 * patch * patch]`. */
export interface PictureShape {
  /** Pictures, tiles or patches. */
  count: number
  /** Of tiles without that of the whole, 0 where it was not split; of patches; else 1. */
  rows: number
  cols: number
}

/** A picture that is neither split nor cut into patches. */
export const wholePicture: PictureShape = { count: 1, rows: 1, cols: 1 }

interface Size {
  width: number
  height: number
}

/** What an image is resized to, one size after another. The last is what is cut into tiles or patches. */
export function sizesOf(rule: PictureRule, { width, height }: Size): Size[] {
  switch (rule.kind) {
    case 'squash':
      return [{ width: rule.width, height: rule.height }]
    case 'crop':
      return [byShortestEdge({ width, height }, rule.shortest)]
    case 'pad':
      return [{ width: rule.side, height: rule.side }]
    case 'tiles': {
      const first = byLongestEdge({ width, height }, rule.longestEdge)
      return [first, rule.split ? byTiles(first, rule.tile) : { width: rule.tile, height: rule.tile }]
    }
    case 'patches':
      return [byPatches({ width, height }, rule)]
  }
}

/**
 * What an image of a size becomes, its orientation applied.
 * @throws ImageError `image_invalid` for a picture that the model's processor refuses
 */
export function shapeOf(rule: PictureRule, width: number, height: number): PictureShape {
  const size = sizesOf(rule, { width, height }).at(-1)!
  if (rule.kind === 'tiles') {
    if (size.width <= rule.tile && size.height <= rule.tile) return { count: 1, rows: 0, cols: 0 }
    const [rows, cols] = [size.height / rule.tile, size.width / rule.tile]
    return { count: rows * cols + 1, rows, cols }
  }
  if (rule.kind === 'patches') {
    const [rows, cols] = [size.height / rule.patch, size.width / rule.patch]
    return { count: rows * cols, rows, cols }
  }
  return wholePicture
}

/** Pixels of one picture, tile or patch, `[height, width]`. */
export function unitOf(rule: PictureRule): [height: number, width: number] {
  if (rule.kind === 'pad') return [rule.side, rule.side]
  if (rule.kind === 'tiles') return [rule.tile, rule.tile]
  if (rule.kind === 'patches') return [rule.patch, rule.patch]
  return [rule.height, rule.width]
}

/** Bytes of the pixels of an image. */
export function pictureBytes(rule: PictureRule, { count }: PictureShape): number {
  const [height, width] = unitOf(rule)
  return count * height * width * 3
}

/** Bytes of the pixels that an image has at most. */
export function mostPictureBytes(rule: PictureRule): number {
  const [height, width] = unitOf(rule)
  if (rule.kind === 'tiles') return mostTilesOf(rule) * height * width * 3
  if (rule.kind === 'patches') {
    // Sides are rounded up to whole tokens, also of a picture as long as may be.
    const [factor, long, short] = [rule.patch * rule.merge, rule.maxPixels * maxRatio, rule.maxPixels]
    return 3 * (rule.maxPixels + factor * (Math.sqrt(long) + Math.sqrt(short)) + factor ** 2)
  }
  return height * width * 3
}

/** Maximum pixels of an image that a model sees; undefined where all images are seen in one size. */
export function seenPixels(rule: PictureRule): number | undefined {
  if (rule.kind === 'patches') return rule.maxPixels
  return rule.kind === 'tiles' && rule.split ? rule.longestEdge ** 2 : undefined
}

/** The rule with no more than so many pixels of an image, where that is a choice. */
export function limitPixels<Rule extends PictureRule>(rule: Rule, pixels: number | undefined): Rule {
  if (pixels === undefined) return rule
  if (rule.kind === 'patches') {
    const least = Math.max(rule.minPixels, (rule.patch * rule.merge) ** 2)
    return { ...rule, maxPixels: Math.min(rule.maxPixels, Math.max(pixels, least)) }
  }
  if (rule.kind === 'tiles') {
    const tiles = Math.max(1, Math.floor(Math.sqrt(pixels) / rule.tile))
    return { ...rule, longestEdge: Math.min(rule.longestEdge, tiles * rule.tile) }
  }
  return rule
}

/** `get_resize_output_image_size` of Hugging Face's `image_transforms.py`, for a shortest edge. */
function byShortestEdge({ width, height }: Size, shortest: number): Size {
  if (width <= height) return { width: shortest, height: Math.trunc((shortest * height) / width) }
  return { width: Math.trunc((shortest * width) / height), height: shortest }
}

/** Above this, Idefics3 scales down once more. */
const maxLongestEdge = 4096

/** `get_resize_output_image_size` of Hugging Face's `image_processing_idefics3.py`. */
function byLongestEdge(size: Size, longest: number): Size {
  const even = (value: number) => value + (value % 2)
  const scaled = withLongest(size, longest, even)
  return Math.max(scaled.width, scaled.height) > maxLongestEdge
    ? withLongest(scaled, maxLongestEdge, (value) => value)
    : scaled
}

function withLongest({ width, height }: Size, longest: number, round: (value: number) => number): Size {
  const ratio = width / height
  return width >= height
    ? { width: longest, height: Math.max(1, round(Math.trunc(longest / ratio))) }
    : { width: Math.max(1, round(Math.trunc(longest * ratio))), height: longest }
}

/** `resize_for_vision_encoder` of the same file. */
function byTiles({ width, height }: Size, tile: number): Size {
  const whole = (value: number) => Math.ceil(value / tile) * tile
  const ratio = width / height
  return width >= height
    ? { width: whole(width), height: whole(Math.trunc(whole(width) / ratio)) }
    : { width: whole(Math.trunc(whole(height) * ratio)), height: whole(height) }
}

/** Above this, Qwen2-VL's processor refuses a picture. */
const maxRatio = 200

/** `smart_resize` of Hugging Face's `image_processing_qwen2_vl.py`. */
function byPatches({ width, height }: Size, { patch, merge, minPixels, maxPixels }: PatchesRule): Size {
  const ratio = Math.max(width, height) / Math.min(width, height)
  if (ratio > maxRatio)
    throw new ImageError(
      'image_invalid',
      `The image is ${width} x ${height} pixels; this model takes no image that is more than ${maxRatio} times as long as wide. Crop it.`,
      { param: 'image' },
    )
  const factor = patch * merge
  const nearest = (side: number) => roundHalfEven(side / factor) * factor
  const [w, h] = [nearest(width), nearest(height)]
  if (w * h > maxPixels) {
    const shrink = Math.sqrt((height * width) / maxPixels)
    const below = (side: number) => Math.max(factor, Math.floor(side / shrink / factor) * factor)
    return { width: below(width), height: below(height) }
  }
  if (w * h < minPixels) {
    const grow = Math.sqrt(minPixels / (height * width))
    const above = (side: number) => Math.ceil((side * grow) / factor) * factor
    return { width: above(width), height: above(height) }
  }
  return { width: w, height: h }
}

/** As Python rounds. */
function roundHalfEven(value: number): number {
  const floor = Math.floor(value)
  if (value - floor !== 0.5) return Math.round(value)
  return floor % 2 === 0 ? floor : floor + 1
}

/** What a model's graph does to pixels of 0 to 255: `(pixel * rescale - mean) / std`, per channel. */
export interface Normalisation {
  mean: [number, number, number]
  std: [number, number, number]
  rescale: number
  /** Order of the channels that the model was trained on. */
  channels: 'rgb' | 'bgr'
}

/** Of an opened model folder. */
export interface PictureConfig {
  rule: PictureRule
  normalise: Normalisation
}

const side = z.int().min(1).max(8192)
const pixelCount = z.int().min(1)
const sizeSchema = z.union([
  side,
  z.object({ height: side, width: side }),
  z.object({ shortest_edge: pixelCount, longest_edge: pixelCount }),
  z.object({ shortest_edge: side }),
  z.object({ longest_edge: side }),
  z.object({ max_pixels: pixelCount, min_pixels: pixelCount }),
])
const channelSchema = z.union([
  z.array(z.number()).length(3),
  z.number().transform((value) => [value, value, value]),
])
const configSchema = z.looseObject({
  image_processor_type: z.string().nullish(),
  feature_extractor_type: z.string().nullish(),
  do_resize: z.boolean().nullish(),
  size: sizeSchema.nullish(),
  resample: z.int().nullish(),
  do_center_crop: z.boolean().nullish(),
  crop_size: sizeSchema.nullish(),
  do_pad: z.boolean().nullish(),
  do_image_splitting: z.boolean().nullish(),
  max_image_size: sizeSchema.nullish(),
  patch_size: side.nullish(),
  merge_size: side.nullish(),
  temporal_patch_size: z.int().min(1).max(8).nullish(),
  min_pixels: pixelCount.nullish(),
  max_pixels: pixelCount.nullish(),
  do_rescale: z.boolean().nullish(),
  rescale_factor: z.number().positive().nullish(),
  do_normalize: z.boolean().nullish(),
  image_mean: channelSchema.nullish(),
  image_std: channelSchema.nullish(),
})
type Config = z.output<typeof configSchema>

const clip = {
  mean: [0.48145466, 0.4578275, 0.40821073],
  std: [0.26862954, 0.26130258, 0.27577711],
}
const half = { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] }

/** Defaults of a processor, and how its settings become a rule. */
interface Processor {
  mean: number[]
  std: number[]
  rule(config: Config): PictureRule
}

const squashed = (
  defaults: { mean: number[]; std: number[] },
  side: number,
  resample: number,
): Processor => ({
  ...defaults,
  rule: (config) => squash(config, side, resample),
})

/** Hugging Face's image processors, by their names without `ImageProcessor`, `ImageProcessorFast` or `FeatureExtractor`. */
const processors: Record<string, Processor> = {
  Blip: squashed(clip, 384, 3),
  ViT: squashed(half, 224, 2),
  Siglip: squashed(half, 224, 3),
  CLIP: { ...clip, rule: cropped },
  Llava: { ...clip, rule: (config) => (config.do_pad ? padded(config) : cropped(config)) },
  Florence2: { ...clip, rule: cropped },
  Idefics3: { ...half, rule: tiled },
  SmolVLM: { ...half, rule: tiled },
  Qwen2VL: { ...clip, rule: patched },
}

/** A folder that has no processor of its own in Hugging Face's library names none of these. */
class UnsupportedPicture extends Error {}

/**
 * Reads a folder's `preprocessor_config.json`.
 *
 * @param kinds what the model's family takes; another family's processor is refused
 * @throws ModelFolderError that names the file and the field
 */
export async function readPictureConfig(
  folder: string,
  kinds: readonly PictureRule['kind'][],
): Promise<PictureConfig> {
  const name = 'preprocessor_config.json'
  const file = join(folder, name)
  const config = await readModelJson(folder, name, configSchema)
  if (config === undefined) throw new ModelFolderError(`${file} is missing. Pull the model again.`)
  try {
    const { type, processor } = processorOf(config)
    const rule = processor.rule(config)
    if (!kinds.includes(rule.kind))
      throw new UnsupportedPicture(`${type} is the processor of another family of models.`)
    assertBounded(rule)
    return { rule, normalise: normalisationOf(config, processor) }
  } catch (error) {
    if (error instanceof UnsupportedPicture) throw new ModelFolderError(`${file}: ${error.message}`)
    throw error
  }
}

function processorOf(config: Config): { type: string; processor: Processor } {
  const type = config.image_processor_type ?? config.feature_extractor_type
  if (!type) throw new UnsupportedPicture('image_processor_type is missing.')
  const name = type.replace(/(ImageProcessor(Fast|Pil)?|FeatureExtractor)$/, '')
  if (Object.hasOwn(processors, name)) return { type, processor: processors[name]! }
  throw new UnsupportedPicture(
    `image_processor_type ${JSON.stringify(type.slice(0, 100))} is not supported; supported: ${Object.keys(processors).join(', ')}.`,
  )
}

/** The largest of a pixel: no model is trained on more, and far larger ones are no numbers to it. */
const mostNormalised = 10_000

function normalisationOf(config: Config, processor: Processor): Normalisation {
  const rescale = config.do_rescale === false ? 1 : (config.rescale_factor ?? 1 / 255)
  const normalises = config.do_normalize !== false
  const mean = normalises ? (config.image_mean ?? processor.mean) : [0, 0, 0]
  const std = normalises ? (config.image_std ?? processor.std) : [1, 1, 1]
  if (std.some((value) => !(value > 0))) throw new UnsupportedPicture('image_std must be above 0.')
  const extremes = [0, 255].flatMap((pixel) =>
    mean.map((middle, channel) => Math.abs((pixel * rescale - middle) / std[channel]!)),
  )
  if (extremes.some((value) => !(value <= mostNormalised)))
    throw new UnsupportedPicture(
      `rescale_factor, image_mean and image_std make pixels of more than ${mostNormalised}.`,
    )
  return { mean: mean as Normalisation['mean'], std: std as Normalisation['std'], rescale, channels: 'rgb' }
}

const kernels: readonly Resample[] = ['nearest', 'lanczos3', 'bilinear', 'bicubic']

function resampleOf({ resample }: Config, otherwise: number): Resample {
  const kernel = kernels[resample ?? otherwise]
  if (kernel) return kernel
  throw new UnsupportedPicture(
    `resample must be 0 (nearest), 1 (lanczos), 2 (bilinear) or 3 (bicubic), got ${resample}.`,
  )
}

/** Sides of a size; a number is a square. */
function sidesOf(size: Config['size'], field: string): Size {
  if (typeof size === 'number') return { width: size, height: size }
  if (size && 'height' in size) return size
  throw new UnsupportedPicture(`${field} must have a height and a width.`)
}

function edgeOf(size: Config['size'], edge: 'shortest_edge' | 'longest_edge', field: string): number {
  const value = size && typeof size === 'object' ? (size as Record<string, number>)[edge] : undefined
  if (value !== undefined) return value
  throw new UnsupportedPicture(`${field} must have a ${edge}.`)
}

function assertResized({ do_resize: resized }: Config): void {
  if (resized === false)
    throw new UnsupportedPicture('do_resize is false: the model would take images of one size only.')
}

function squash(config: Config, side: number, resample: number): PictureRule {
  assertResized(config)
  if (config.do_center_crop) throw new UnsupportedPicture('do_center_crop is not supported here.')
  return {
    kind: 'squash',
    ...sidesOf(config.size ?? side, 'size'),
    resample: resampleOf(config, resample),
    exact: true,
  }
}

/** CLIP's processor: the shortest edge by default, then the centre; or one size. */
function cropped(config: Config): PictureRule {
  assertResized(config)
  const size = config.size ?? 224
  const resample = resampleOf(config, 3)
  if (config.do_center_crop === false) {
    if (typeof size === 'number')
      throw new UnsupportedPicture('without do_center_crop, size must have a height and a width.')
    return { kind: 'squash', ...sidesOf(size, 'size'), resample, exact: true }
  }
  const crop = sidesOf(config.crop_size ?? 224, 'crop_size')
  if (typeof size === 'object' && 'height' in size) {
    if (size.height !== crop.height || size.width !== crop.width)
      throw new UnsupportedPicture('crop_size must equal size, where that has a height and a width.')
    return { kind: 'squash', ...size, resample, exact: true }
  }
  const shortest = typeof size === 'number' ? size : edgeOf(size, 'shortest_edge', 'size')
  if (Math.max(crop.height, crop.width) > shortest)
    throw new UnsupportedPicture('crop_size is larger than the shortest edge.')
  return { kind: 'crop', shortest, ...crop, resample }
}

/** LLaVA's own processor puts images on a square of the mean colour. */
function padded(config: Config): PictureRule {
  const rule = cropped(config)
  const side = rule.kind === 'crop' ? rule.shortest : 0
  if (rule.kind !== 'crop' || rule.width !== side || rule.height !== side)
    throw new UnsupportedPicture('with do_pad, size and crop_size must be one square.')
  const [red, green, blue] = (config.image_mean ?? clip.mean).map((value) => Math.trunc(value * 255))
  return { kind: 'pad', side, resample: rule.resample, background: [red!, green!, blue!] }
}

function tiled(config: Config): PictureRule {
  assertResized(config)
  return {
    kind: 'tiles',
    longestEdge: edgeOf(config.size ?? { longest_edge: 4 * 364 }, 'longest_edge', 'size'),
    tile: edgeOf(config.max_image_size ?? { longest_edge: 364 }, 'longest_edge', 'max_image_size'),
    split: config.do_image_splitting !== false,
    resample: resampleOf(config, 1),
  }
}

function patched(config: Config): PictureRule {
  assertResized(config)
  const { size } = config
  const limit = (name: 'min_pixels' | 'max_pixels', edge: 'shortest_edge' | 'longest_edge') => {
    const limits = size && typeof size === 'object' ? (size as Record<string, number>) : {}
    return config[name] ?? limits[name] ?? limits[edge]
  }
  const rule: PatchesRule = {
    kind: 'patches',
    patch: config.patch_size ?? 14,
    merge: config.merge_size ?? 2,
    minPixels: limit('min_pixels', 'shortest_edge') ?? 56 * 56,
    maxPixels: limit('max_pixels', 'longest_edge') ?? 28 * 28 * 1280,
    resample: resampleOf(config, 3),
  }
  if (rule.minPixels > rule.maxPixels) throw new UnsupportedPicture('min_pixels is larger than max_pixels.')
  if (rule.maxPixels < (rule.patch * rule.merge) ** 2)
    throw new UnsupportedPicture('max_pixels is less than one token of the model.')
  return rule
}

const mostTilesOf = ({ split, longestEdge, tile }: TilesRule) =>
  // The other side is rounded up to an even number.
  split ? Math.ceil(Math.min(longestEdge + 1, maxLongestEdge) / tile) ** 2 + 1 : 1

/** Pixels of one image: more than the largest public models take. */
const mostPixels = 17_000_000
const mostTiles = 257

function assertBounded(rule: PictureRule): void {
  const [height, width] = unitOf(rule)
  const refuse = (what: string) => {
    throw new UnsupportedPicture(`an image would become ${what}.`)
  }
  if (height * width > mostPixels) refuse(`${height} x ${width} pixels`)
  if (rule.kind === 'patches' && rule.maxPixels > mostPixels) refuse(`${rule.maxPixels} pixels (max_pixels)`)
  if (rule.kind === 'patches' && rule.patch * rule.merge > 1024)
    refuse(`patches of ${rule.patch * rule.merge} pixels`)
  if (rule.kind === 'tiles') {
    const tiles = mostTilesOf(rule)
    if (tiles > mostTiles || tiles * rule.tile ** 2 > 2 * mostPixels) refuse(`${tiles} tiles`)
  }
}
