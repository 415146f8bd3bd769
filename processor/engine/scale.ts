import sharp, { type KernelEnum, type Sharp } from 'sharp'
import type { Resample } from '../models/pictures.ts'
import type { Picture } from './picture.ts'
import { type Axis, neededOf, type Pixels, resize, resizeCost } from './resample.ts'

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

/** How a picture is resampled. */
export interface Scaling {
  x: Axis
  y: Axis
  resample: Resample
  /** Colour of what is beside the picture. Default: black. */
  border?: readonly [number, number, number]
  /** Whether libvips resamples all of it. Default: of what takes long to shrink as much as is near enough. */
  byLibrary?: boolean
}

/** A decoded picture, and what is left to do. */
export interface Shrunk {
  pixels: Pixels
  rest: Scaling
}

/** Multiplications that an exact result may take: 2 ms for a picture of 400 x 300, 8 ms at most. */
const exactCost = 8e6
/**
 * Libvips is near an exact result to 0.1 grey levels in the mean where little is shrunk, and to 0.5 where much is; on one axis
 * alone to half of that.
 */
const nearRatio = 3
/** Pixels of lines that are shrunk on one axis alone, bytes. */
const mostHeld = 32e6

/**
 * Decodes a picture on white, and shrinks it with libvips line by line where that is needed: it is twenty times as fast as
 * the exact way, and never holds all of a large picture.
 */
export async function shrink({ pipeline, ...source }: Picture, scaling: Scaling): Promise<Shrunk> {
  const { x, y, resample, byLibrary } = scaling
  const isCostly = byLibrary || resizeCost(source, x, y, resample) > exactCost
  const vertical = axisOf(source.height, y, resample, isCostly)
  const isExact =
    !byLibrary &&
    vertical.size !== undefined &&
    source.width >= nearRatio * x.size &&
    3 * source.width * vertical.size <= mostHeld
  const horizontal = axisOf(source.width, x, resample, isCostly && !isExact)
  const [across, down] = [horizontal.before, vertical.before]
  let rgb = pipeline.flatten({ background: 'white' })
  if (across.length < source.width || down.length < source.height)
    rgb = rgb.extract({ left: across.from, top: down.from, width: across.length, height: down.length })
  const [width, height] = [horizontal.size ?? across.length, vertical.size ?? down.length]
  if (horizontal.size !== undefined || vertical.size !== undefined)
    rgb = rgb.resize({ width, height, fit: 'fill', kernel: kernels[resample], fastShrinkOnLoad: false })
  const [column, row] = [horizontal.after, vertical.after]
  if (column || row)
    rgb = rgb.extract({
      ...{ left: column?.from ?? 0, width: column?.length ?? width },
      ...{ top: row?.from ?? 0, height: row?.length ?? height },
    })
  return { pixels: await decode(rgb), rest: { ...scaling, x: horizontal.rest, y: vertical.rest } }
}

/** By how much the decoder of JPEG can shrink. */
const decoderShrinks = [8, 4, 2]

/**
 * Decodes a JPEG whose decoder shrinks it meanwhile (libjpeg's scaled inverse transform), to no less than twice the size that
 * it will have: one of 12 megapixels takes half of the time. Others are left as they are.
 */
export async function shrunkByDecoder(picture: Picture, { x, y }: Scaling): Promise<Picture> {
  const { pipeline, width, height } = picture
  const length = ({ shown }: Axis, side: number) => Math.max(side, shown?.length ?? 0)
  const [across, down] = [length(x, width) / x.size, length(y, height) / y.size]
  const shrink = decoderShrinks.find((factor) => Math.min(across, down) >= 2 * factor)
  if (shrink === undefined) return picture
  // With no more pixels than it leaves, libvips shrinks in the decoder alone, but for a last odd line.
  const size = { width: Math.floor(width / shrink), height: Math.floor(height / shrink) }
  const { data, ...raw } = await decode(
    pipeline
      .flatten({ background: 'white' })
      .resize({ ...size, fit: 'fill', kernel: 'linear', fastShrinkOnLoad: true }),
  )
  return { pipeline: sharp(data, { raw: { ...raw, channels: 3 } }), ...raw }
}

interface Part {
  from: number
  length: number
}

/** What libvips does along an axis: takes a part, shrinks it to a size, takes a part of that; and what is left to do. */
interface LibraryAxis {
  before: Part
  size?: number
  after?: Part
  rest: Axis
}

function axisOf(sourceSize: number, axis: Axis, resample: Resample, byLibrary: boolean): LibraryAxis {
  const { size, shown = { from: 0, length: sourceSize }, part } = axis
  const isPlain = shown.from === 0 && shown.length === sourceSize
  if (byLibrary && isPlain && size < sourceSize)
    return {
      ...{ before: { from: 0, length: sourceSize }, size, after: part },
      rest: { size: part?.length ?? size },
    }
  const before = neededOf(sourceSize, axis, resample)
  const rest: Axis = { ...axis, shown: { from: shown.from - before.from, length: shown.length } }
  return { before, rest }
}

/** Does what is left. */
export async function finish({ pixels, rest }: Shrunk): Promise<Pixels> {
  const { x, y, resample, border, byLibrary } = rest
  if (pixels.width === x.size && pixels.height === y.size && !border) return pixels
  return byLibrary ? enlarge(pixels, rest) : resize(pixels, x, y, resample, border)
}

/** Resamples pixels to a size. */
export async function scalePixels(
  pixels: Pixels,
  size: { width: number; height: number },
  resample: Resample,
): Promise<Pixels> {
  const { data, ...raw } = pixels
  const scaling: Scaling = { x: { size: size.width }, y: { size: size.height }, resample }
  if (raw.width <= size.width && raw.height <= size.height) return finish({ pixels, rest: scaling })
  return finish(await shrink({ pipeline: sharp(data, { raw: { ...raw, channels: 3 } }), ...raw }, scaling))
}

/**
 * Enlarges an image to a size with libvips. It samples an enlarged pixel at its upper left corner, Pillow at its centre:
 * the centres are the odd pixels of an image of twice the size.
 */
async function enlarge({ data, ...size }: Pixels, { x, y, resample }: Scaling): Promise<Pixels> {
  const [width, height] = [x.size, y.size]
  const twice = await decode(
    sharp(data, { raw: { ...size, channels: 3 } }).resize({
      width: 2 * width,
      height: 2 * height,
      fit: 'fill',
      kernel: kernels[resample],
    }),
  )
  const target = new Uint8Array(width * height * 3)
  for (let y = 0, to = 0; y < height; y++) {
    let from = ((2 * y + 1) * twice.width + 1) * 3
    for (let x = 0; x < width; x++, from += 6) {
      target[to++] = twice.data[from]!
      target[to++] = twice.data[from + 1]!
      target[to++] = twice.data[from + 2]!
    }
  }
  return { data: target, width, height }
}

/** Decodes to 8-bit sRGB, sharp's default colour space. */
async function decode(pipeline: Sharp): Promise<Pixels> {
  const { data, info } = await pipeline
    .removeAlpha()
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  return { data, width: info.width, height: info.height }
}
