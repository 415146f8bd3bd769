import type { SharpOptions } from 'sharp'
import { ImageError, TurbineError } from '../../edge/contract/errors.ts'
import type { FileFormat } from '../../edge/contract/formats/formats.ts'
import {
  assertDecoded,
  checkImage,
  defaultMaxPixels,
  type ImageWarning,
  type Truncated,
} from '../../edge/contract/image.ts'
import { type PictureRule, type PictureShape, pictureBytes, shapeOf } from '../models/pictures.ts'
import { layOut, scalingOf } from './layout.ts'
import { openPicture } from './picture.ts'
import type { Pixels } from './resample.ts'
import { finish, type Shrunk, shrink, shrunkByDecoder } from './scale.ts'
import { isTruncated } from './truncated.ts'

export interface PreprocessOptions {
  maxPixels?: number
  /** Whether what is there of a truncated file is taken. Default: `refuse`. */
  truncated?: Truncated
  /** Whether the decoder shrinks large JPEGs while it decodes. Default: `exact`, it does not. */
  decode?: 'exact' | 'fast'
}

/** Where pixels go: what `pictureBytes` says of their shape. */
export type PixelTarget = Uint8Array | ((shape: PictureShape) => Uint8Array)

/** What is told of a decoded image. */
export interface Preprocessed {
  warnings: ImageWarning[]
  /** Of the picture, its orientation applied, pixels. */
  width: number
  height: number
  shape: PictureShape
}

/**
 * Decodes an image into `target` as the model's rule says: orientation applied, transparency on white, 8-bit sRGB, the
 * first frame of an animation. Works on libuv's threads, one per image.
 *
 * @throws ImageError `image_invalid` 400, or 415 for another format; `image_too_large` 413 (from the header, before
 * decoding). `target` is unchanged then.
 * @example await preprocess(await readFile('photo.jpg'), model.picture, slot.pixels)
 */
export async function preprocess(
  bytes: Uint8Array,
  rule: PictureRule,
  target: PixelTarget,
  { maxPixels = defaultMaxPixels, truncated = 'refuse', decode = 'exact' }: PreprocessOptions = {},
): Promise<Preprocessed> {
  // The decoder's own detection would also accept SVG, which can reference other files. Memory is limited from outside.
  checkImage(bytes, 'image', { maxPixels, maxDecodeBytes: Number.POSITIVE_INFINITY })
  const format = assertDecoded(bytes, 'image')
  const { shrunk, warnings, ...size } = await shrunkOf({ bytes, format, rule, maxPixels, truncated, decode })
  const shape = shapeOf(rule, size.width, size.height)
  const into = typeof target === 'function' ? target(shape) : target
  const expected = pictureBytes(rule, shape)
  if (into.length !== expected) throw new RangeError(`target must have ${expected} bytes, got ${into.length}`)
  await layOut(await finish(shrunk), rule, size, into)
  return { warnings, shape, ...size }
}

interface ImageRead extends Required<PreprocessOptions> {
  bytes: Uint8Array
  format: FileFormat
  rule: PictureRule
}

interface Read {
  shrunk: Shrunk
  warnings: ImageWarning[]
  width: number
  height: number
}

/** Decodes and shrinks; of a truncated file what is there, where that is accepted and enough. */
async function shrunkOf({ bytes, format, rule, maxPixels, truncated, decode }: ImageRead): Promise<Read> {
  // Fails on truncated and corrupt pixels, and tolerates what 'warning' rejects without need.
  const strict = { failOn: 'error', limitInputPixels: maxPixels, autoOrient: true } as const
  const read = async (options: SharpOptions, warnings: ImageWarning[] = []): Promise<Read> => {
    const picture = await openPicture(bytes, format, options)
    const { width, height } = picture
    const scaling = scalingOf(rule, picture)
    if (decode === 'exact' || format.name !== 'JPEG' || scaling.byLibrary)
      return { shrunk: await shrink(picture, scaling), warnings, width, height }
    const smaller = await shrunkByDecoder(picture, scaling)
    // Of a picture that is put on a square, the place of the square is in its own pixels.
    const rest = rule.kind === 'pad' ? scalingOf(rule, smaller) : scaling
    return { shrunk: await shrink(smaller, rest), warnings, width, height }
  }
  try {
    return await read(strict)
  } catch (cause) {
    if (cause instanceof TurbineError) throw cause
    if (/pixel limit/i.test(String(cause))) throw tooLarge(maxPixels)
    if (!isTruncated(format.name, bytes)) throw corrupt(format, cause)
    if (truncated === 'refuse') throw cut('Send the complete file, or set TURBINE_TRUNCATED=accept.', cause)
    const part = await read({ ...strict, failOn: 'none' }, ['truncated']).catch((error) => {
      throw cut(`What there is of this ${format.name} cannot be decoded. Send the complete file.`, error)
    })
    if (shownShare(part.shrunk.pixels, fillings[format.name] ?? []) < leastShare)
      throw cut('Less than half of the picture is there. Send the complete file.', cause)
    return part
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
