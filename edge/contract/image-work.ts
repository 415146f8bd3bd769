import { gifBlocks, gifFrame } from './formats/gif-frame.ts'
import { readTiff, tiffKind, tiffTags } from './formats/tiff-tags.ts'

/** What the decoder of an image has to do, as its header says it. The decoder may find more: headers lie. */
export interface ImageWork {
  /** Memory that the decoder needs at once, bytes. */
  memoryBytes: number
  /** Memory that it keeps after the first image of its kind, bytes. */
  libraryBytes: number
  /** CPU time on a slow core, ms. */
  cpuMs: number
  /** Scans of a progressive JPEG, counted up to one more than are accepted. */
  scans: number
  /** Frames of an animation or pages of a TIFF, counted up to one more than are accepted. */
  frames: number
}

/** Maximum scans of a JPEG. Cameras and encoders write 10 or so; each is a pass over all pixels. */
export const maxScans = 100
/** Maximum frames of an animation, and pages of a TIFF: decoders look at all before they take the first. */
export const maxFrames = 10_000

/** Steps through a file, e.g. from marker to marker. Real ones take a tenth of that; what is beyond is not looked at. */
const maxSteps = 1_000_000

/** Format, width and height are known. */
interface Picture {
  format: string
  bytes: Uint8Array
  width: number
  height: number
}

/** What a format adds; its memory is beside that of the lines being scaled, and of the file. */
interface FormatWork {
  memoryBytes: number
  /** CPU time of a megapixel, ms. */
  cpuMsPerMegapixel: number
  /** CPU time for what is no pixel, ms. Default: 0. */
  cpuMsBeside?: number
  /** Bytes of a decoded pixel. Default: 3. */
  pixelBytes?: number
  /** By how much the decoder shrinks each side while it reads. Default: 1. */
  shrink?: number
  /** Whether it is read by the decoder for formats that libvips has none for. */
  byMagick?: boolean
  scans?: number
  frames?: number
}

/** Lines that libvips holds while it scales an image down, as measured over widths up to 65,535. */
const linesHeld = 2048
const lineOverhead = 1.3

/** What that decoder takes before its first image: it is loaded when it is needed. */
const magickBytes = 90_000_000
const magickCpuMs = 130

/**
 * Estimates the work of decoding an image with libvips, from its header and without decoding. The factors are measured
 * (peak memory and CPU time of images of 1 to 64 megapixels), rounded up.
 */
export function imageWork(picture: Picture): ImageWork {
  const { bytes, width, height } = picture
  const read: FormatReader = readers[picture.format] ?? plain
  const work = read(picture)
  const { cpuMsPerMegapixel, cpuMsBeside = 0, pixelBytes = 3, shrink = 1, byMagick = false } = work
  const { scans = 1, frames = 1 } = work
  const lines = lineOverhead * (width / shrink) * Math.min(height / shrink, linesHeld) * pixelBytes
  return {
    memoryBytes: Math.ceil(work.memoryBytes + lines + bytes.length),
    libraryBytes: byMagick ? magickBytes : 0,
    cpuMs: (cpuMsPerMegapixel * width * height) / 1e6 + cpuMsBeside + (byMagick ? magickCpuMs : 0),
    scans,
    frames,
  }
}

type FormatReader = (picture: Picture) => FormatWork

const plain: FormatReader = () => ({ memoryBytes: 0, cpuMsPerMegapixel: 20 })

const readers: Record<string, FormatReader> = {
  JPEG: jpegWork,
  PNG: pngWork,
  GIF: ({ bytes, width, height }) => ({
    // A frame that is smaller than its screen is put on one.
    memoryBytes: (gifFrame(bytes) ? 10 : 4) * width * height,
    cpuMsPerMegapixel: 15,
    pixelBytes: 4,
    frames: gifBlocks(bytes, maxFrames + 1).frames,
  }),
  WebP: ({ bytes, width, height }) => ({
    memoryBytes: 8 * width * height,
    cpuMsPerMegapixel: 25,
    pixelBytes: 4,
    frames: webpFrames(bytes),
  }),
  TIFF: tiffWork,
  AVIF: ({ bytes, width, height }) => ({
    memoryBytes: (hasMoreThan8Bits(bytes) ? 24 : 17) * width * height,
    cpuMsPerMegapixel: 60,
  }),
  HEIC: byMagick(17, 150, ({ bytes }) => (isDeepHevc(bytes) ? 1.3 : 1)),
  BMP: byMagick(12, 35),
  'JPEG XL': byMagick(19, 160),
  'JPEG 2000': byMagick(20, 160),
}

/** Its memory holds the pixels of the codec, its own, and the file for libvips that is made of them. */
function byMagick(
  pixelBytes: number,
  cpuMsPerMegapixel: number,
  factor: (picture: Picture) => number = () => 1,
): FormatReader {
  return (picture) => ({
    memoryBytes: pixelBytes * factor(picture) * picture.width * picture.height,
    cpuMsPerMegapixel,
    byMagick: true,
  })
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A decoder keeps the coefficients of all pixels when an image has more than one scan, and passes over them for each. */
function jpegWork({ bytes, width, height }: Picture): FormatWork {
  const { scans, samplesPerPixel } = jpegScans(bytes)
  const shrink = jpegShrink(width, height)
  return {
    memoryBytes: scans > 1 ? 2 * samplesPerPixel * width * height : 0,
    cpuMsPerMegapixel: (shrink > 1 ? 5 : 10) + (scans > 1 ? 2 * scans : 0),
    shrink,
    scans,
  }
}

/** Side of the largest model that shrinking is counted on for, pixels. */
const modelSide = 1024

/** The decoder leaves a factor of two to the resampling: a half, a quarter or an eighth is what it reads. */
function jpegShrink(width: number, height: number): number {
  const factor = Math.min(width, height) / modelSide
  return [8, 4, 2].find((shrink) => factor >= 2 * shrink) ?? 1
}

const isStartOfFrame = (marker: number) =>
  marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc
const isProgressive = (marker: number) => (marker & 3) === 2
/** Markers without a segment: TEM, RST0 to RST7, SOI. */
const isBare = (marker: number) => marker === 0x01 || (marker >= 0xd0 && marker <= 0xd8)

/** Size of a JPEG, before its orientation. @throws Error without a frame */
export function jpegSize(bytes: Uint8Array): { width: number; height: number } {
  const view = viewOf(bytes)
  for (const { marker, at } of jpegSegments(bytes))
    if (isStartOfFrame(marker)) return { height: view.getUint16(at + 5), width: view.getUint16(at + 7) }
  throw new Error('the JPEG has no frame')
}

const endOfImage = 0xd9

/** Whether the marker of its end is there, behind the scans. */
export function jpegIsComplete(bytes: Uint8Array): boolean {
  for (const { marker } of jpegSegments(bytes)) if (marker === endOfImage) return true
  return false
}

/** Counts scans up to the end of the image, as libjpeg finds them; where the file is broken, those before. */
function jpegScans(bytes: Uint8Array): { scans: number; samplesPerPixel: number } {
  let components = 3
  let samplesPerPixel = 3
  let progressive = false
  let scans = 0
  for (const { marker, at } of jpegSegments(bytes)) {
    if (isStartOfFrame(marker)) {
      progressive = isProgressive(marker)
      components = bytes[at + 9] ?? components
      samplesPerPixel = samplesOf(bytes, at + 10, components)
    } else if (marker === 0xda) {
      scans++
      // All components in one scan of a sequential JPEG: a decoder accepts no other.
      if (!progressive && scans === 1 && bytes[at + 4] === components) break
      if (scans > maxScans) break
    }
  }
  return { scans, samplesPerPixel }
}

/** Samples of all components for each pixel: 1.5 in the usual 4:2:0. */
function samplesOf(bytes: Uint8Array, at: number, components: number): number {
  const blocks = Array.from({ length: Math.min(components, 4) }, (_, index) => {
    const factors = bytes[at + 3 * index + 1] ?? 0x11
    return (factors >> 4) * (factors & 15)
  })
  return blocks.reduce((sum, count) => sum + count, 0) / Math.max(...blocks, 1)
}

/**
 * Segments of a JPEG; `at` is where the marker is. Bytes between segments, as those of scans, are passed over. Ends early
 * in a file that is made of little but markers.
 */
function* jpegSegments(bytes: Uint8Array): Generator<{ marker: number; at: number }> {
  let at = bytes.indexOf(0xff, 2)
  for (let step = 0; step < maxSteps && at >= 0 && at + 1 < bytes.length; step++) {
    const marker = bytes[at + 1]!
    // Neither data (`ff 00`) nor padding.
    if (marker !== 0 && marker !== 0xff) yield { marker, at }
    if (marker === endOfImage) return
    if (marker === 0xff) at++
    else if (marker === 0 || isBare(marker)) at += 2
    else at += 2 + Math.max(2, (bytes[at + 2]! << 8) | bytes[at + 3]!)
    if (bytes[at] !== 0xff) at = bytes.indexOf(0xff, at)
  }
}

const pngChannels: Record<number, number> = { 0: 1, 2: 3, 3: 3, 4: 2, 6: 4 }

function pngWork({ bytes, width, height }: Picture): FormatWork {
  const [depth = 8, colour = 2, , , interlaced = 0] = bytes.subarray(24, 29)
  const pixelBytes = (pngChannels[colour] ?? 4) * (depth > 8 ? 2 : 1)
  return {
    memoryBytes: interlaced ? pixelBytes * width * height : 0,
    cpuMsPerMegapixel: 20,
    cpuMsBeside: pngChunksCpuMs(bytes),
    pixelBytes,
  }
}

/** Types of chunks of deflated text (`zTXt`, `iTXt`) or a profile (`iCCP`), which is unpacked to more than a thousand times as much. */
const packedChunks = new Set([0x7a545874, 0x69545874, 0x69434350])
const deflateRatio = 1032
/** Where libpng stops unpacking a chunk, bytes. */
const maxUnpackedChunk = 8e6
const cpuMsPerUnpackedByte = 2e-6
const cpuMsPerChunk = 1e-3

/** Cost of a PNG's chunks that are no pixels. */
function pngChunksCpuMs(bytes: Uint8Array): number {
  const view = viewOf(bytes)
  let cpuMs = 0
  for (let at = 8, step = 0; step < maxSteps && at + 12 <= bytes.length; step++) {
    const length = view.getUint32(at)
    const unpacked = packedChunks.has(view.getUint32(at + 4))
      ? Math.min(maxUnpackedChunk, deflateRatio * length)
      : 0
    cpuMs += cpuMsPerChunk + cpuMsPerUnpackedByte * unpacked
    at += 12 + length
  }
  return cpuMs
}

function webpFrames(bytes: Uint8Array): number {
  const view = viewOf(bytes)
  let at = 12
  let frames = 0
  for (let step = 0; step < maxSteps && at + 8 <= bytes.length && frames <= maxFrames; step++) {
    // `ANMF`
    if (view.getUint32(at) === 0x414e4d46) frames++
    const size = view.getUint32(at + 4, true)
    at += 8 + size + (size & 1)
  }
  return Math.max(frames, 1)
}

/** An HEVC configuration box (`hvcC`) has the depth of luma beyond 8 bits in its 18th byte; without one it is taken to be deep. */
function isDeepHevc(bytes: Uint8Array): boolean {
  const head = String.fromCharCode(...bytes.subarray(0, 8192))
  const boxes = [...head.matchAll(/hvcC/g)]
  return boxes.length === 0 || boxes.some(({ index }) => (head.charCodeAt(index + 4 + 17) & 7) > 0)
}

/** An AV1 configuration box (`av1C`) says whether samples have more than 8 bits; a file without one is taken to. */
function hasMoreThan8Bits(bytes: Uint8Array): boolean {
  const head = String.fromCharCode(...bytes.subarray(0, 4096))
  const boxes = [...head.matchAll(/av1C/g)]
  return boxes.length === 0 || boxes.some(({ index }) => (head.charCodeAt(index + 6) & 0x40) !== 0)
}

/** Strips and tiles are decoded whole. */
function tiffWork({ bytes, width, height }: Picture): FormatWork {
  const tiff = readTiff(bytes)
  const tag = (id: number, otherwise: number) => tiff.tag(id) || otherwise
  const sampleBytes = Math.ceil(tag(tiffTags.bitsPerSample, 8) / 8)
  const pixelBytes = Math.max(3, tag(tiffTags.samplesPerPixel, 3) * sampleBytes)
  const tileWidth = tag(tiffTags.tileWidth, 0)
  const block = tileWidth
    ? Math.ceil(width / tileWidth) * tileWidth * tag(tiffTags.tileLength, height)
    : width * Math.min(height, tag(tiffTags.rowsPerStrip, height))
  const work = { cpuMsPerMegapixel: 20, pixelBytes, frames: tiff.pages(maxFrames + 1) }
  const memoryBytes = 2.5 * block * pixelBytes
  // All samples at once, and a copy of the file.
  if (tiffKind(tiff) !== 'picture')
    return { ...work, cpuMsPerMegapixel: 200, memoryBytes: memoryBytes + 20 * width * height + bytes.length }
  return { ...work, memoryBytes }
}
