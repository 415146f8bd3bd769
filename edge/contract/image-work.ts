/** What the decoder of an image has to do, as its header says it. The decoder may find more: headers lie. */
export interface ImageWork {
  /** Memory that the decoder needs at once, bytes. */
  memoryBytes: number
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
  scans?: number
  frames?: number
}

/** Lines that libvips holds while it scales an image down, as measured over widths up to 65,535. */
const linesHeld = 2048
const lineOverhead = 1.3

/**
 * Estimates the work of decoding an image with libvips, from its header and without decoding. The factors are measured
 * (peak memory and CPU time of images of 1 to 64 megapixels), rounded up.
 */
export function imageWork(picture: Picture): ImageWork {
  const { bytes, width, height } = picture
  const read: FormatReader = readers[picture.format] ?? plain
  const { memoryBytes, cpuMsPerMegapixel, cpuMsBeside = 0, ...rest } = read(picture)
  const { pixelBytes = 3, scans = 1, frames = 1 } = rest
  const lines = lineOverhead * width * Math.min(height, linesHeld) * pixelBytes
  return {
    memoryBytes: Math.ceil(memoryBytes + lines + bytes.length),
    cpuMs: (cpuMsPerMegapixel * width * height) / 1e6 + cpuMsBeside,
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
    memoryBytes: 4 * width * height,
    cpuMsPerMegapixel: 15,
    pixelBytes: 4,
    frames: gifFrames(bytes),
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
}

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A decoder keeps the coefficients of all pixels when an image has more than one scan, and passes over them for each. */
function jpegWork({ bytes, width, height }: Picture): FormatWork {
  const { scans, samplesPerPixel } = jpegScans(bytes)
  return {
    memoryBytes: scans > 1 ? 2 * samplesPerPixel * width * height : 0,
    cpuMsPerMegapixel: 10 + (scans > 1 ? 2 * scans : 0),
    scans,
  }
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
  for (let step = 0; step < maxSteps && at >= 0 && at + 3 < bytes.length; step++) {
    const marker = bytes[at + 1]!
    if (marker === 0xd9) return
    // Neither data (`ff 00`) nor padding.
    if (marker !== 0 && marker !== 0xff) yield { marker, at }
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

/** Passes over sub-blocks, each of a length and as many bytes. @returns where they end */
function afterSubBlocks(bytes: Uint8Array, at: number): number {
  let end = at
  for (let step = 0; step < maxSteps && end < bytes.length; step++) {
    const length = bytes[end]!
    end += 1 + length
    if (length === 0) return end
  }
  return bytes.length
}

function gifFrames(bytes: Uint8Array): number {
  const tableBytes = (packed = 0) => (packed & 0x80 ? 3 * 2 ** ((packed & 7) + 1) : 0)
  let at = 13 + tableBytes(bytes[10])
  let frames = 0
  for (let step = 0; step < maxSteps && at < bytes.length && frames <= maxFrames; step++) {
    if (bytes[at] === 0x21) at = afterSubBlocks(bytes, at + 2)
    else if (bytes[at] === 0x2c) {
      frames++
      at = afterSubBlocks(bytes, at + 11 + tableBytes(bytes[at + 9]))
    } else break
  }
  return frames
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

/** An AV1 configuration box (`av1C`) says whether samples have more than 8 bits; a file without one is taken to. */
function hasMoreThan8Bits(bytes: Uint8Array): boolean {
  const head = String.fromCharCode(...bytes.subarray(0, 4096))
  const boxes = [...head.matchAll(/av1C/g)]
  return boxes.length === 0 || boxes.some(({ index }) => (head.charCodeAt(index + 6) & 0x40) !== 0)
}

const tiffTags = {
  bitsPerSample: 258,
  samplesPerPixel: 277,
  rowsPerStrip: 278,
  tileWidth: 322,
  tileLength: 323,
} as const

/** Strips and tiles are decoded whole. */
function tiffWork({ bytes, width, height }: Picture): FormatWork {
  const { tag, pages } = readTiff(bytes)
  const sampleBytes = Math.ceil(tag(tiffTags.bitsPerSample, 8) / 8)
  const pixelBytes = Math.max(3, tag(tiffTags.samplesPerPixel, 3) * sampleBytes)
  const tileWidth = tag(tiffTags.tileWidth, 0)
  const block = tileWidth
    ? Math.ceil(width / tileWidth) * tileWidth * tag(tiffTags.tileLength, height)
    : width * Math.min(height, tag(tiffTags.rowsPerStrip, height))
  return { memoryBytes: 2.5 * block * pixelBytes, cpuMsPerMegapixel: 20, pixelBytes, frames: pages }
}

/** Field types of TIFF that hold an integer: SHORT, LONG, LONG8. */
const tiffShort = 3
const tiffLong8 = 16

/** Reads the numbers of the first page, and counts pages. What lies outside of the file is absent. */
function readTiff(bytes: Uint8Array): { tag(id: number, otherwise: number): number; pages: number } {
  const view = viewOf(bytes)
  const little = bytes[0] === 0x49
  const big = view.getUint16(2, little) === 43
  const layout = big
    ? { first: 8, count: 8, entry: 20, value: 12, offset: 8 }
    : { first: 4, count: 2, entry: 12, value: 8, offset: 4 }
  const number = (at: number, size: number) => {
    if (at + size > bytes.length) return undefined
    if (size === 2) return view.getUint16(at, little)
    return size === 4 ? view.getUint32(at, little) : Number(view.getBigUint64(at, little))
  }
  /** Entry of a tag: its type, how many values, and the first, or where it is. */
  const valueAt = (at: number) => {
    const type = number(at + 2, 2)
    const size = type === tiffShort ? 2 : type === tiffLong8 ? 8 : 4
    const inline = (number(at + 4, layout.offset) ?? 0) * size <= layout.offset
    const place = inline ? at + layout.value : number(at + layout.value, layout.offset)
    return place === undefined ? undefined : number(place, size)
  }
  const first = number(layout.first, layout.offset)
  const values = new Map<number, number>()
  const entries = first === undefined ? 0 : Math.min(number(first, layout.count) ?? 0, 4096)
  for (let entry = 0; entry < entries; entry++) {
    const at = first! + layout.count + entry * layout.entry
    const id = number(at, 2)
    const value = valueAt(at)
    if (id !== undefined && value !== undefined) values.set(id, value)
  }
  let pages = 0
  for (let at = first; at && pages <= maxFrames; pages++) {
    const count = number(at, layout.count)
    if (count === undefined) break
    at = number(at + layout.count + count * layout.entry, layout.offset)
  }
  return { tag: (id, otherwise) => values.get(id) || otherwise, pages: Math.max(pages, 1) }
}
