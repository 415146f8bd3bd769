import sharp, { type Sharp, type SharpOptions } from 'sharp'
import { ImageError } from '../../edge/contract/errors.ts'
import {
  readTiff,
  type TiffTags,
  tiffKind,
  tiffRefusal,
  tiffTags,
} from '../../edge/contract/formats/tiff-tags.ts'

const unsigned = 1
const float = 3
const rgb = 2

/** Opens a TIFF of any kind that is decoded: where libvips would misread its numbers, they are made 8 bits here. @throws ImageError */
export async function openTiff(bytes: Uint8Array, options: SharpOptions): Promise<Sharp> {
  const tiff = readTiff(bytes)
  const refusal = tiffRefusal(tiff)
  if (refusal) throw new ImageError('image_invalid', `The TIFF ${refusal}`, { status: 415, param: 'image' })
  const kind = tiffKind(tiff)
  if (kind === 'picture') return sharp(bytes, options)
  const samples = kind === 'lab' ? await labSamples(tiff, options) : await numberSamples(bytes, tiff, options)
  const { values, width, height, channels, colours, orientation } = samples
  const pixels =
    kind === 'lab'
      ? labToRgb(values, channels, illuminantOf(tiff))
      : toEightBits(values, channels, colours, tiff)
  const picture = sharp(pixels, { limitInputPixels: false, raw: { width, height, channels } })
  if (orientation === 1) return picture
  // The orientation is a tag of the file, which the pixels no longer have.
  return sharp(await picture.withMetadata({ orientation }).tiff({ compression: 'none' }).toBuffer(), options)
}

interface Samples {
  /** `[height, width, channels]` */
  values: Float32Array
  width: number
  height: number
  channels: 1 | 2 | 3 | 4
  /** Channels that are not transparency. */
  colours: number
  orientation: number
}

/** The numbers as they are in the file. */
async function samplesOf(bytes: Uint8Array, options: SharpOptions): Promise<Samples> {
  const pipeline = sharp(bytes, { ...options, autoOrient: false, ignoreIcc: true })
  const { space, hasAlpha, orientation = 1 } = await pipeline.metadata()
  const raw = pipeline.toColourspace(space!).raw({ depth: 'float' })
  const { data, info } = await raw.toBuffer({ resolveWithObject: true })
  const { width, height, channels } = info
  const values = new Float32Array(data.buffer, data.byteOffset, data.length / 4)
  return { values, width, height, channels, colours: hasAlpha ? channels - 1 : channels, orientation }
}

/** Signed numbers of 16 bits would be cut at 0, so they are read without their sign. */
async function numberSamples(bytes: Uint8Array, tiff: TiffTags, options: SharpOptions): Promise<Samples> {
  const isShort = tiff.tag(tiffTags.bitsPerSample) === 16
  if (!isShort) return samplesOf(bytes, options)
  const samples = await samplesOf(tiff.with(tiffTags.sampleFormat, unsigned), options)
  samples.values.forEach((value, index, values) => {
    if (value >= 0x8000) values[index] = value - 0x10000
  })
  return samples
}

/** L, a and b of CIELab, as if they were red, green and blue: libvips mistakes them for a packing of its own. */
async function labSamples(tiff: TiffTags, options: SharpOptions): Promise<Samples> {
  const samples = await samplesOf(tiff.with(tiffTags.photometric, rgb), options)
  const most = tiff.tag(tiffTags.bitsPerSample) === 16 ? 0xffff : 0xff
  const one = (most + 1) / 256
  const { values, channels } = samples
  for (let at = 0; at < values.length; at += channels) {
    values[at] = (values[at]! / most) * 100
    for (const index of [at + 1, at + 2]) {
      const value = values[index]! / one
      values[index] = value >= 128 ? value - 256 : value
    }
  }
  return samples
}

/** A white, and the matrix from XYZ under it to linear sRGB (IEC 61966-2-1), adapted with Bradford's where it is another. */
interface Illuminant {
  white: readonly [number, number, number]
  toLinear: readonly (readonly [number, number, number])[]
}

/** Of profiles, and of CIELab where a file says nothing. */
const d50: Illuminant = {
  white: [0.9642, 1, 0.8249],
  toLinear: [
    [3.1338561, -1.6168667, -0.4906146],
    [-0.9787684, 1.9161415, 0.033454],
    [0.0719453, -0.2289914, 1.4052427],
  ],
}
const d65: Illuminant = {
  white: [0.9505, 1, 1.089],
  toLinear: [
    [3.2404542, -1.5371385, -0.4985314],
    [-0.969266, 1.8760108, 0.041556],
    [0.0556434, -0.2040259, 1.0572252],
  ],
}

/** Daylight, if the file has its white at an x of 0.3127 and not of 0.3457. */
function illuminantOf({ values }: TiffTags): Illuminant {
  const [numerator = 0, denominator = 1] = values(tiffTags.whitePoint, 2)
  const x = numerator / denominator
  return x > 0.3 && x < 0.33 ? d65 : d50
}

/** 8 bits of sRGB from CIELab (CIE 15:2004); transparency is left out. */
function labToRgb(
  values: Float32Array,
  channels: number,
  { white, toLinear }: Illuminant,
): Uint8ClampedArray {
  const pixels = new Uint8ClampedArray(values.length)
  const linear = (f: number) => (f > 6 / 29 ? f ** 3 : 3 * (6 / 29) ** 2 * (f - 4 / 29))
  const gamma = (c: number) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055)
  for (let at = 0; at < values.length; at += channels) {
    const y = (values[at]! + 16) / 116
    const fs = [y + values[at + 1]! / 500, y, y - values[at + 2]! / 200]
    const [X, Y, Z] = fs.map((f, index) => linear(f) * white[index]!) as [number, number, number]
    toLinear.forEach(([x, y, z], channel) => {
      pixels[at + channel] = 255 * gamma(x * X + y * Y + z * Z)
    })
    if (channels === 4) pixels[at + 3] = 255
  }
  return pixels
}

/** Numbers as 8 bits, by their range; transparency has its own. */
function toEightBits(
  values: Float32Array,
  channels: number,
  colours: number,
  { tag }: TiffTags,
): Uint8ClampedArray {
  const isFloat = tag(tiffTags.sampleFormat) === float
  const { least, scale } = rangeOf(values, channels, colours, isFloat)
  const pixels = new Uint8ClampedArray(values.length)
  for (let index = 0; index < values.length; index++)
    pixels[index] =
      index % channels < colours ? (values[index]! - least) * scale : values[index]! * (isFloat ? 255 : 1)
  return pixels
}

/** Above this, numbers up to 255 are taken to be 8 bits; below, such a picture would be nearly black. */
const leastOfEightBits = 32

/**
 * What is black and how much a number is worth: floats from 0 to 1 and numbers from 0 to 255 have their usual range, others
 * are stretched from their least to their greatest.
 */
function rangeOf(samples: Float32Array, channels: number, colours: number, isFloat: boolean) {
  let least = Number.POSITIVE_INFINITY
  let most = Number.NEGATIVE_INFINITY
  for (let index = 0; index < samples.length; index++) {
    const value = samples[index]!
    if (index % channels >= colours || !Number.isFinite(value)) continue
    if (value < least) least = value
    if (value > most) most = value
  }
  if (least >= 0 && isFloat && most <= 1) return { least: 0, scale: 255 }
  if (least >= 0 && most > leastOfEightBits && most <= 255) return { least: 0, scale: 1 }
  return { least, scale: most > least ? 255 / (most - least) : 0 }
}
