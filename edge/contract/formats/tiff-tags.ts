/** Tags of TIFF, by their names in its specification and in those that build on it. */
export const tiffTags = {
  newSubfileType: 254,
  bitsPerSample: 258,
  compression: 259,
  photometric: 262,
  samplesPerPixel: 277,
  rowsPerStrip: 278,
  stripOffsets: 273,
  stripByteCounts: 279,
  whitePoint: 318,
  tileWidth: 322,
  tileLength: 323,
  tileOffsets: 324,
  tileByteCounts: 325,
  subIfds: 330,
  sampleFormat: 339,
  dngVersion: 50706,
} as const

/** What the directories of a TIFF say, as far as they lie in the file. */
export interface TiffTags {
  /** First number of a tag of the first page; undefined where there is none. */
  tag(id: number): number | undefined
  /** All numbers of a tag of the first page, at most so many. */
  values(id: number, most: number): number[]
  /** A copy of the file in which all numbers of a tag of 16 bits are another one. */
  with(id: number, value: number): Uint8Array
  /** Pages, counted up to the most that is asked for. */
  pages(most: number): number
}

/** What has to be done to show a TIFF. */
export type TiffKind =
  /** Colours or greys of 1 to 16 bits. */
  | 'picture'
  /** Measured numbers, whose range says what is black and white. */
  | 'numbers'
  /** CIELab, which has to be converted. */
  | 'lab'

const unsigned = 1
const signed = 2
const float = 3
const cieLab = 8

/** Kind of the first page. */
export function tiffKind({ tag }: Pick<TiffTags, 'tag'>): TiffKind {
  if (tag(tiffTags.photometric) === cieLab) return 'lab'
  const format = tag(tiffTags.sampleFormat) ?? unsigned
  const bits = tag(tiffTags.bitsPerSample) ?? 1
  return format === signed || format === float || bits > 16 ? 'numbers' : 'picture'
}

/** Compressions and colour spaces that no decoder here has. */
const refusedCompressions: Readonly<Record<number, string>> = {
  33003: 'JPEG 2000',
  33005: 'JPEG 2000',
  34712: 'JPEG 2000',
  34887: 'LERC',
  34925: 'LZMA',
  34933: 'PNG',
  50000: 'Zstandard',
  50002: 'JPEG XL',
  52546: 'JPEG XL',
}
const refusedColours: Readonly<Record<number, string>> = {
  9: 'ICC Lab',
  10: 'ITU Lab',
  32844: 'LogL',
  32845: 'LogLuv',
}

/** Why a TIFF is refused, and what to do: the rest of a message that begins with `The TIFF`; undefined for one that is decoded. */
export function tiffRefusal({ tag }: Pick<TiffTags, 'tag'>): string | undefined {
  const compression = refusedCompressions[tag(tiffTags.compression) ?? 1]
  if (compression)
    return `is compressed with ${compression}, which is not decoded. Save it with LZW, Deflate or no compression.`
  const colours = refusedColours[tag(tiffTags.photometric) ?? 1]
  if (colours) return `has colours in ${colours}, which are not decoded. Save it as RGB.`
  const format = tag(tiffTags.sampleFormat) ?? unsigned
  const bits = tag(tiffTags.bitsPerSample) ?? 1
  if (format === 5 || format === 6) return 'has complex numbers. Save what is to be seen of them, as 8 bits.'
  if (format === float && bits !== 32)
    return `has floats of ${bits} bits, which are not decoded. Save it with floats of 32 bits, or with 8 or 16 bits.`
  if (bits > 32) return `has numbers of ${bits} bits, which are not decoded. Save it with 8 or 16 bits.`
  return undefined
}

/** Field types of TIFF that hold an integer: SHORT, LONG, LONG8, and IFD for directories. */
const byteType = 1
const shortType = 3
const long8Type = 16
const sizes: Readonly<Record<number, number>> = { [byteType]: 1, [shortType]: 2, [long8Type]: 8 }
const maxEntries = 4096

/** Reads the directories of a TIFF or BigTIFF. What lies outside of the file is absent. */
export function readTiff(bytes: Uint8Array): TiffTags {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const little = bytes[0] === 0x49
  const big = bytes.length > 3 && view.getUint16(2, little) === 43
  const layout = big
    ? { first: 8, count: 8, entry: 20, value: 12, offset: 8 }
    : { first: 4, count: 2, entry: 12, value: 8, offset: 4 }
  const number = (at: number, size: number) => {
    if (at + size > bytes.length) return undefined
    if (size === 1) return view.getUint8(at)
    if (size === 2) return view.getUint16(at, little)
    return size === 4 ? view.getUint32(at, little) : Number(view.getBigUint64(at, little))
  }
  const first = number(layout.first, layout.offset)
  /** Where the entry of a tag of the first page is. */
  const entries = new Map<number, number>()
  const count = first === undefined ? 0 : Math.min(number(first, layout.count) ?? 0, maxEntries)
  for (let entry = 0; entry < count; entry++) {
    const at = first! + layout.count + entry * layout.entry
    const id = number(at, 2)
    if (id !== undefined) entries.set(id, at)
  }
  /** Of each kind an entry tells: its type, how many numbers, and these, or where they are. */
  function placesOf(id: number, most: number): { at: number; size: number }[] {
    const at = entries.get(id)
    if (at === undefined) return []
    const size = sizes[number(at + 2, 2) ?? 0] ?? 4
    const length = number(at + 4, layout.offset) ?? 0
    const inline = length * size <= layout.offset
    const first = inline ? at + layout.value : number(at + layout.value, layout.offset)
    if (first === undefined) return []
    const there = Math.min(length, most, Math.max(0, Math.floor((bytes.length - first) / size)))
    return Array.from({ length: there }, (_, index) => ({ at: first + index * size, size }))
  }
  const values = (id: number, most: number) => placesOf(id, most).map(({ at, size }) => number(at, size)!)
  return {
    values,
    tag: (id) => values(id, 1)[0],
    with(id, value) {
      const copy = new Uint8Array(bytes)
      const written = new DataView(copy.buffer)
      for (const { at, size } of placesOf(id, 16)) if (size === 2) written.setUint16(at, value, little)
      return copy
    },
    pages(most) {
      let pages = 0
      for (let at = first; at && pages < most; pages++) {
        const length = number(at, layout.count)
        if (length === undefined) break
        at = number(at + layout.count + length * layout.entry, layout.offset)
      }
      return Math.max(pages, 1)
    },
  }
}
