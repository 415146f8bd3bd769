import { GIF } from 'image-size/types/gif'
import { HEIF } from 'image-size/types/heif'
import type { IImage, ISize } from 'image-size/types/interface'
import { J2C } from 'image-size/types/j2c'
import { JP2 } from 'image-size/types/jp2'
import { JXL } from 'image-size/types/jxl'
import { JXLStream } from 'image-size/types/jxl-stream'
import { PNG } from 'image-size/types/png'
import { TIFF } from 'image-size/types/tiff'
import { WEBP } from 'image-size/types/webp'
import { ImageError } from './errors.ts'
import { decodedFormats, type FileFormat, formatOf } from './formats/formats.ts'
import { type ImageWork, imageWork, jpegSize, maxFrames, maxScans } from './image-work.ts'

/** How much of an image is accepted. */
export interface ImageLimits {
  /** Maximum pixels, read from the header before it is decoded. */
  maxPixels: number
  /** Maximum memory that decoding it may take, bytes. */
  maxDecodeBytes: number
}

/** What is done with a file whose end is missing. */
export const truncatedChoices = ['refuse', 'accept'] as const
export type Truncated = (typeof truncatedChoices)[number]

/** What is told of an image beside its caption. `truncated`: a part of the picture may be missing. */
export const imageWarnings = ['truncated'] as const
export type ImageWarning = (typeof imageWarnings)[number]

/** Phones have up to 200 megapixels; a JPEG of that many is shrunk while it is read. */
export const defaultMaxPixels = 250_000_000
/** Enough for a HEIC photo of 24 megapixels. */
export const defaultDecodeBytes = 640 * 1024 ** 2
export const defaultImageLimits: ImageLimits = {
  maxPixels: defaultMaxPixels,
  maxDecodeBytes: defaultDecodeBytes,
}

/** The limits that are set. @param decodeMemoryMb MiB; 0: that of the processor, which the edge does not know */
export const imageLimitsOf = ({
  maxPixels,
  decodeMemoryMb,
}: {
  maxPixels: number
  decodeMemoryMb: number
}): ImageLimits => ({ maxPixels, maxDecodeBytes: decodeMemoryMb * 1024 ** 2 || defaultDecodeBytes })

/** Maximum width and height of an image, pixels. */
export const maxImageSide = 65_535

interface Header {
  calculate: IImage['calculate']
  /**
   * Maximum bytes for the header's parser. Input is untrusted: AVIF boxes can be searched again for every size in them,
   * so the parser gets only as much as real files need.
   */
  bytes: number
}

const all = Number.POSITIVE_INFINITY

/** By the name of a format that is decoded. */
const headers: Readonly<Record<string, Header>> = {
  JPEG: { calculate: jpegSize, bytes: all },
  PNG: { calculate: PNG.calculate, bytes: 64 },
  WebP: { calculate: WEBP.calculate, bytes: 64 },
  GIF: { calculate: GIF.calculate, bytes: 64 },
  // The directory of a TIFF can be anywhere, often at the end.
  TIFF: { calculate: TIFF.calculate, bytes: all },
  AVIF: { calculate: HEIF.calculate, bytes: 32 * 1024 },
  HEIC: { calculate: HEIF.calculate, bytes: 32 * 1024 },
  BMP: { calculate: bmpSize, bytes: 64 },
  'JPEG XL': {
    calculate: (bytes) => (bytes[0] === 0xff ? JXLStream : JXL).calculate(bytes),
    bytes: 256 * 1024,
  },
  'JPEG 2000': { calculate: (bytes) => (bytes[0] === 0xff ? J2C : JP2).calculate(bytes), bytes: 1024 },
}

/** The oldest header has a size of 16 bits; a negative height is one from the top. */
function bmpSize(bytes: Uint8Array): ISize {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.getUint32(14, true) === 12)
    return { width: view.getUint16(18, true), height: view.getUint16(20, true) }
  return { width: view.getUint32(18, true), height: Math.abs(view.getInt32(22, true)) }
}

/** Names of the formats that are decoded, for messages and documents. */
export const acceptedNames = decodedFormats.map(({ name }) => name).join(', ')

/** Size of the largest picture in the header; undefined when the header is unreadable. */
function sizeInHeader({ name }: FileFormat, bytes: Uint8Array): ISize | undefined {
  try {
    const { images, ...size } = headers[name]!.calculate(bytes.subarray(0, headers[name]!.bytes))
    const sizes: ISize[] = [size, ...(images ?? [])]
    const largest = sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a))
    return Number.isFinite(largest.width * largest.height) ? largest : undefined
  } catch {
    // The decoder, which reads the whole file, judges odd or broken headers.
    return undefined
  }
}

/** Width and height that the header of an image says; undefined when it is unreadable, or not of an accepted image. */
export function imageSize(bytes: Uint8Array): { width: number; height: number } | undefined {
  const format = formatOf(bytes)
  return format?.decoded ? sizeInHeader(format, bytes) : undefined
}

/**
 * Rejects bytes that are not an accepted image, by their header and without decoding. Unclear cases pass: the decoder
 * checks again.
 *
 * @param param the request field that held the image, for the error
 * @returns what decoding takes; undefined when the header is unreadable
 * @throws ImageError `image_invalid` (400 when empty, 415 in another format), `image_too_large` and `image_too_complex`
 * (413)
 */
export function checkImage(
  bytes: Uint8Array,
  param?: string,
  limits: ImageLimits = defaultImageLimits,
): ImageWork | undefined {
  const format = assertDecoded(bytes, param)
  const size = sizeInHeader(format, bytes)
  if (!size) return undefined
  checkSize(size, limits, param)
  const work = imageWork({ format: format.name, bytes, ...size })
  checkWork(work, { maxBytes: limits.maxDecodeBytes, param })
  return work
}

/** What an image is. @throws ImageError `image_invalid`: 400 when empty, 415 in a format that is not decoded */
export function assertDecoded(bytes: Uint8Array, param?: string): FileFormat {
  if (bytes.length === 0)
    throw new ImageError('image_invalid', `The image is empty. Send the bytes of a ${acceptedNames} file.`, {
      param,
    })
  const format = formatOf(bytes)
  if (format?.decoded) return format
  const { what = 'not an image in an accepted format', note } = format ?? {}
  const remedy = note ? `${note} Accepted:` : 'Send one of'
  throw new ImageError('image_invalid', `The bytes are ${what}. ${remedy} ${acceptedNames}.`, {
    status: 415,
    param,
  })
}

function checkSize({ width, height }: ISize, { maxPixels }: ImageLimits, param: string | undefined): void {
  const refuse = (what: string) => {
    const message = `The image has ${what}. Scale it down; a caption needs far fewer.`
    throw new ImageError('image_too_large', message, { status: 413, param })
  }
  const pixels = width * height
  if (pixels > maxPixels)
    refuse(
      `${Math.ceil(pixels / 1e6)} megapixels; at most ${maxPixels / 1e6} are accepted (TURBINE_MAX_PIXELS)`,
    )
  if (Math.max(width, height) > maxImageSide)
    refuse(`${width} x ${height} pixels; at most ${maxImageSide} on each side are accepted`)
}

/** @throws ImageError `image_too_complex` 413 when decoding takes more than an image may */
export function checkWork(
  { scans, frames, memoryBytes }: ImageWork,
  { maxBytes = defaultDecodeBytes, param }: { maxBytes?: number; param?: string },
): void {
  const refuse = (message: string) => {
    throw new ImageError('image_too_complex', message, { status: 413, param })
  }
  const megabytes = (size: number) => `${Math.ceil(size / 1e6)} MB`
  if (scans > maxScans) refuse(`The JPEG has more than ${maxScans} scans. Save it as a baseline JPEG.`)
  if (frames > maxFrames)
    refuse(`The image has more than ${maxFrames} frames or pages. Send the first one alone.`)
  if (memoryBytes > maxBytes)
    refuse(
      `Decoding the image takes ${megabytes(memoryBytes)}; at most ${megabytes(maxBytes)} are given (TURBINE_DECODE_MEMORY_MB). Scale it down, or save it as a baseline JPEG.`,
    )
}
