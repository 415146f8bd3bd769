import sharp, { type KernelEnum, type Sharp } from 'sharp'
import { ImageError } from '../../edge/contract/errors.ts'
import { checkImage, maxImagePixels } from '../../edge/contract/image.ts'
import type { ImageSpec, Resample } from '../models/model.ts'

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

/**
 * Decodes an image into `target`, `uint8 [height, width, 3]` RGB, as the BLIP image processor of Hugging Face does:
 * orientation applied, transparency on white, 8-bit sRGB, the first frame of an animation, squashed to the model's size (an
 * image of that size is not resampled). Works on libuv's threads, one per image.
 *
 * @throws ImageError `image_invalid` 400, or 415 for another format; `image_too_large` 413 (from the header, before
 * decoding). `target` is unchanged then.
 * @example await preprocess(await readFile('photo.jpg'), model.image, slot.row(0))
 */
export async function preprocess(bytes: Uint8Array, image: ImageSpec, target: Uint8Array): Promise<void> {
  const { width, height } = image
  if (target.length !== height * width * 3) {
    throw new RangeError(`target must have ${height * width * 3} bytes, got ${target.length}`)
  }
  const source = await open(bytes)
  const shrunk = await decode(shrink(source, image))
  if (shrunk.width === width && shrunk.height === height) target.set(shrunk.data)
  else await enlarge(shrunk, image, target)
}

interface Source {
  pipeline: Sharp
  /** Pixels, after the orientation is applied. */
  width: number
  height: number
}

/** Checks signature and header before the rest is decoded. */
async function open(bytes: Uint8Array): Promise<Source> {
  // The decoder's own detection would also accept SVG, which can reference other files.
  checkImage(bytes, 'image')
  // 'error' fails on truncated and corrupt pixels, and tolerates what 'warning' rejects without need.
  const pipeline = sharp(bytes, { failOn: 'error', limitInputPixels: maxImagePixels, autoOrient: true })
  const header = await read(() => pipeline.metadata())
  return { pipeline, ...header.autoOrient }
}

/** Flattens on white and shrinks each axis to the model's size. */
function shrink({ pipeline, ...source }: Source, image: ImageSpec): Sharp {
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
  const { data, info } = await read(() =>
    pipeline.removeAlpha().raw({ depth: 'uchar' }).toBuffer({ resolveWithObject: true }),
  )
  return { data, width: info.width, height: info.height }
}

/** Makes a decoder error an error of this image. */
async function read<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work()
  } catch (cause) {
    if (/pixel limit/i.test(String(cause))) throw tooLarge()
    const message = 'The image is truncated or corrupt. Send the complete, unmodified file.'
    throw new ImageError('image_invalid', message, { param: 'image', cause })
  }
}

function tooLarge(): ImageError {
  const message = `The image has more than ${maxImagePixels / 1e6} megapixels. Scale it down.`
  return new ImageError('image_too_large', message, { status: 413, param: 'image' })
}
