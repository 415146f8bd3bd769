import { GIF } from 'image-size/types/gif'
import { HEIF } from 'image-size/types/heif'
import type { IImage, ISize } from 'image-size/types/interface'
import { PNG } from 'image-size/types/png'
import { TIFF } from 'image-size/types/tiff'
import { WEBP } from 'image-size/types/webp'
import { ImageError } from './errors.ts'
import { type ImageWork, imageWork, jpegSize, maxFrames, maxScans } from './image-work.ts'

/** Maximum pixels of an image, read from its header before it is decoded. */
export const maxImagePixels = 64_000_000
/** Maximum width and height of an image, pixels. */
export const maxImageSide = 65_535
/** Maximum memory that decoding an image may take, bytes. */
export const maxDecodeBytes = 360_000_000

interface ImageFormat {
  name: string
  matches(bytes: Uint8Array): boolean
  header: Pick<IImage, 'calculate'>
  /**
   * Maximum bytes for the header's parser. Input is untrusted: AVIF boxes can be searched again for every size in them,
   * so the parser gets only as much as real files need.
   */
  headerBytes: number
}

const startsWith =
  (...signatures: number[][]) =>
  (bytes: Uint8Array) =>
    signatures.some((signature) => signature.every((byte, index) => bytes[index] === byte))

const ascii = (bytes: Uint8Array, start: number, end: number) =>
  String.fromCharCode(...bytes.subarray(start, end))

/** The first box of an AVIF file is `ftyp` with the brand `avif` or `avis`. */
const isAvif = (bytes: Uint8Array) => ascii(bytes, 4, 8) === 'ftyp' && /avi[fs]/.test(ascii(bytes, 8, 64))

const isWebp = (bytes: Uint8Array) => ascii(bytes, 0, 4) === 'RIFF' && ascii(bytes, 8, 12) === 'WEBP'

const littleEndianTiff = [0x49, 0x49, 0x2a, 0x00]
const bigEndianTiff = [0x4d, 0x4d, 0x00, 0x2a]
const littleEndianBigTiff = [0x49, 0x49, 0x2b, 0x00]
const bigEndianBigTiff = [0x4d, 0x4d, 0x00, 0x2b]
const isTiff = startsWith(littleEndianTiff, bigEndianTiff, littleEndianBigTiff, bigEndianBigTiff)

const pngSignature = [0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a]

const formats: ImageFormat[] = [
  {
    name: 'JPEG',
    matches: startsWith([0xff, 0xd8, 0xff]),
    header: { calculate: jpegSize },
    headerBytes: Number.POSITIVE_INFINITY,
  },
  { name: 'PNG', matches: startsWith(pngSignature), header: PNG, headerBytes: 64 },
  { name: 'WebP', matches: isWebp, header: WEBP, headerBytes: 64 },
  { name: 'GIF', matches: (bytes) => /^GIF8[79]a/.test(ascii(bytes, 0, 6)), header: GIF, headerBytes: 64 },
  // The directory of a TIFF can be anywhere, often at the end.
  { name: 'TIFF', matches: isTiff, header: TIFF, headerBytes: Number.POSITIVE_INFINITY },
  { name: 'AVIF', matches: isAvif, header: HEIF, headerBytes: 32 * 1024 },
]

/** Names of the accepted formats. */
export const imageFormatNames = formats.map((format) => format.name)

/** Guesses the format of rejected bytes, for the error message. */
function refusedFormat(bytes: Uint8Array): string | undefined {
  const head = ascii(bytes, 0, 256)
  if (/<svg/i.test(head)) return 'an SVG drawing'
  if (head.startsWith('%PDF')) return 'a PDF document'
  if (/^....ftyp(hei|hev|mif1)/s.test(head)) return 'a HEIC photo'
  if (/<!doctype html|<html/i.test(head)) return 'an HTML page'
  return undefined
}

/** Size of the largest picture in the header; undefined when the header is unreadable. */
function sizeInHeader(format: ImageFormat, bytes: Uint8Array): ISize | undefined {
  try {
    const { images, ...size } = format.header.calculate(bytes.subarray(0, format.headerBytes))
    const sizes: ISize[] = [size, ...(images ?? [])]
    const largest = sizes.reduce((a, b) => (b.width * b.height > a.width * a.height ? b : a))
    return Number.isFinite(largest.width * largest.height) ? largest : undefined
  } catch {
    // The decoder, which reads the whole file, judges odd or broken headers.
    return undefined
  }
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
export function checkImage(bytes: Uint8Array, param?: string): ImageWork | undefined {
  if (bytes.length === 0)
    throw new ImageError(
      'image_invalid',
      `The image is empty. Send the bytes of a ${imageFormatNames.join(', ')} file.`,
      { param },
    )
  const format = formats.find((candidate) => candidate.matches(bytes))
  if (!format) {
    const what = refusedFormat(bytes) ?? 'not an image in an accepted format'
    throw new ImageError(
      'image_invalid',
      `The bytes are ${what}. Send one of ${imageFormatNames.join(', ')}.`,
      { status: 415, param },
    )
  }
  const size = sizeInHeader(format, bytes)
  if (!size) return undefined
  checkSize(size, param)
  const work = imageWork({ format: format.name, bytes, ...size })
  checkWork(work, { param })
  return work
}

function checkSize({ width, height }: ISize, param: string | undefined): void {
  const refuse = (what: string) => {
    const message = `The image has ${what} are accepted. Scale it down; a caption needs far fewer.`
    throw new ImageError('image_too_large', message, { status: 413, param })
  }
  const pixels = width * height
  if (pixels > maxImagePixels)
    refuse(`${Math.ceil(pixels / 1e6)} megapixels; at most ${maxImagePixels / 1e6}`)
  if (Math.max(width, height) > maxImageSide)
    refuse(`${width} x ${height} pixels; at most ${maxImageSide} on each side`)
}

/** @throws ImageError `image_too_complex` 413 when decoding takes more than an image may */
export function checkWork(
  { scans, frames, memoryBytes }: ImageWork,
  { maxBytes = maxDecodeBytes, param }: { maxBytes?: number; param?: string },
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
      `Decoding the image takes ${megabytes(memoryBytes)}; at most ${megabytes(maxBytes)} are given. Scale it down, or save it as a baseline JPEG.`,
    )
}
