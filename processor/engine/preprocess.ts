import sharp, { type KernelEnum, type Sharp } from 'sharp'
import { ImageError, TurbineError } from '../../edge/contract/errors.ts'
import type { FileFormat } from '../../edge/contract/formats/formats.ts'
import {
  assertDecoded,
  checkImage,
  defaultMaxPixels,
  type ImageWarning,
  type Truncated,
} from '../../edge/contract/image.ts'
import type { ImageSpec } from '../models/model.ts'
import type { Resample } from '../models/pictures.ts'
import { openPicture, type Picture } from './picture.ts'
import { isTruncated } from './truncated.ts'

// One thread per image: parallel images keep the cores busy and leave the device its share.
sharp.concurrency(1)
// No image is decoded twice, so a cache would only use memory.
sharp.cache(false)

const kernels = {
  nearest: 'nearest',
  bilinear: 'linear',
  bicubic: 'cubic',
  lanczos3: 'lanczos3',
} as const satisfies Record<Resample, keyof KernelEnum>

/** Interleaved RGB, `uint8 [height, width, 3]`. */
interface Pixels {
  data: Uint8Array
  width: number
  height: number
}

export interface PreprocessOptions {
  maxPixels?: number
  /** Whether what is there of a truncated file is taken. Default: `refuse`. */
  truncated?: Truncated
}

/**
 * Decodes an image into `target`, `uint8 [height, width, 3]` RGB, as the BLIP image processor of Hugging Face does:
 * orientation applied, transparency on white, 8-bit sRGB, the first frame of an animation, squashed to the model's size (an
 * image of that size is not resampled). Works on libuv's threads, one per image.
 *
 * @returns what is told of the image beside its caption
 * @throws ImageError `image_invalid` 400, or 415 for another format; `image_too_large` 413 (from the header, before
 * decoding). `target` is unchanged then.
 * @example await preprocess(await readFile('photo.jpg'), model.picture, slot.pixels)
 */
export async function preprocess(
  bytes: Uint8Array,
  image: ImageSpec,
  target: Uint8Array,
  { maxPixels = defaultMaxPixels, truncated = 'refuse' }: PreprocessOptions = {},
): Promise<ImageWarning[]> {
  const { width, height } = image
  if (target.length !== height * width * 3) {
    throw new RangeError(`target must have ${height * width * 3} bytes, got ${target.length}`)
  }
  // The decoder's own detection would also accept SVG, which can reference other files. Memory is limited from outside.
  checkImage(bytes, 'image', { maxPixels, maxDecodeBytes: Number.POSITIVE_INFINITY })
  const format = assertDecoded(bytes, 'image')
  const { pixels, warnings } = await shrunkOf({ bytes, format, image, maxPixels, truncated })
  if (pixels.width === width && pixels.height === height) target.set(pixels.data)
  else await enlarge(pixels, image, target)
  return warnings
}

interface ImageRead {
  bytes: Uint8Array
  format: FileFormat
  image: ImageSpec
  maxPixels: number
  truncated: Truncated
}

/** Decodes and shrinks; of a truncated file what is there, where that is accepted and enough. */
async function shrunkOf(read: ImageRead): Promise<{ pixels: Pixels; warnings: ImageWarning[] }> {
  const { bytes, format, image, maxPixels, truncated } = read
  // Fails on truncated and corrupt pixels, and tolerates what 'warning' rejects without need.
  const strict = { failOn: 'error', limitInputPixels: maxPixels, autoOrient: true } as const
  try {
    return { pixels: await decode(shrink(await openPicture(bytes, format, strict), image)), warnings: [] }
  } catch (cause) {
    if (cause instanceof TurbineError) throw cause
    if (/pixel limit/i.test(String(cause))) throw tooLarge(maxPixels)
    if (!isTruncated(format.name, bytes)) throw corrupt(format, cause)
    if (truncated === 'refuse') throw cut('Send the complete file, or set TURBINE_TRUNCATED=accept.', cause)
    const pixels = await openPicture(bytes, format, { ...strict, failOn: 'none' })
      .then((source) => decode(shrink(source, image)))
      .catch((error) => {
        throw cut(`What there is of this ${format.name} cannot be decoded. Send the complete file.`, error)
      })
    if (shownShare(pixels, fillings[format.name] ?? []) < leastShare)
      throw cut('Less than half of the picture is there. Send the complete file.', cause)
    return { pixels, warnings: ['truncated'] }
  }
}

/** Share of a picture that has to be there. */
const leastShare = 0.5

/** Values of the grey with which the decoder of a format fills what is missing, as profiles may shift it. */
const fillings: Readonly<Record<string, readonly number[]>> = {
  JPEG: [126, 127, 128, 129, 130],
  // Transparent is white.
  PNG: [0, 255],
  GIF: [0, 255],
}

/**
 * Share of a picture that is not the filling of a decoder for what is missing: lines of one colour, at the side that the
 * orientation has put them to.
 */
function shownShare({ data, width, height }: Pixels, filling: readonly number[]): number {
  const isFilling = (index: number) =>
    [0, 1, 2].every((channel) => filling.includes(data[3 * index + channel]!))
  const filled = (lines: number, length: number, at: (line: number, place: number) => number) => {
    let line = 0
    const isFilled = () => Array.from({ length }, (_, place) => at(line, place)).every(isFilling)
    while (line < lines && isFilled()) line++
    return line / lines
  }
  const last = { x: width - 1, y: height - 1 }
  return (
    1 -
    Math.max(
      filled(height, width, (line, x) => (last.y - line) * width + x),
      filled(height, width, (line, x) => line * width + x),
      filled(width, height, (line, y) => y * width + last.x - line),
      filled(width, height, (line, y) => y * width + line),
    )
  )
}

/** Flattens on white and shrinks each axis to the model's size. */
function shrink({ pipeline, ...source }: Picture, image: ImageSpec): Sharp {
  const width = Math.min(source.width, image.width)
  const height = Math.min(source.height, image.height)
  const rgb = pipeline.flatten({ background: 'white' })
  if (width === source.width && height === source.height) return rgb
  return rgb.resize({ width, height, fit: 'fill', kernel: kernels[image.resample], fastShrinkOnLoad: false })
}

/**
 * Enlarges an image to the model's size. libvips samples an enlarged pixel at its upper left corner, Pillow at
 * its centre: the centres are the odd pixels of an image of twice the size.
 */
async function enlarge(small: Pixels, image: ImageSpec, target: Uint8Array): Promise<void> {
  const { data, ...size } = small
  const twice = await decode(
    sharp(data, { raw: { ...size, channels: 3 } }).resize({
      width: 2 * image.width,
      height: 2 * image.height,
      fit: 'fill',
      kernel: kernels[image.resample],
    }),
  )
  for (let y = 0, to = 0; y < image.height; y++) {
    let from = ((2 * y + 1) * twice.width + 1) * 3
    for (let x = 0; x < image.width; x++, from += 6) {
      target[to++] = twice.data[from]!
      target[to++] = twice.data[from + 1]!
      target[to++] = twice.data[from + 2]!
    }
  }
}

/** Decodes to 8-bit sRGB, sharp's default colour space. */
async function decode(pipeline: Sharp): Promise<Pixels> {
  const { data, info } = await pipeline
    .removeAlpha()
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  return { data, width: info.width, height: info.height }
}

function tooLarge(maxPixels: number): ImageError {
  const message = `The image has more than ${maxPixels / 1e6} megapixels (TURBINE_MAX_PIXELS). Scale it down.`
  return new ImageError('image_too_large', message, { status: 413, param: 'image' })
}

const invalid = (message: string, cause: unknown) =>
  new ImageError('image_invalid', message, { param: 'image', cause })

const cut = (remedy: string, cause: unknown) =>
  invalid(`The image is truncated: its end is missing. ${remedy}`, cause)

const corrupt = ({ name }: FileFormat, cause: unknown) =>
  invalid(
    `The ${name} is corrupt, or of a rare kind that is not decoded. Send the complete, unmodified file, or save it again as JPEG or PNG.`,
    cause,
  )
