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
  /** Pages, counted up to the most that is asked for. */
  pages(most: number): number
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
  /** Of each kind an entry tells: its type, how many values, and these, or where they are. */
  function values(id: number, most: number): number[] {
    const at = entries.get(id)
    if (at === undefined) return []
    const size = sizes[number(at + 2, 2) ?? 0] ?? 4
    const length = number(at + 4, layout.offset) ?? 0
    const inline = length * size <= layout.offset
    const place = inline ? at + layout.value : number(at + layout.value, layout.offset)
    if (place === undefined) return []
    const found: number[] = []
    for (let index = 0; index < Math.min(length, most); index++) {
      const value = number(place + index * size, size)
      if (value === undefined) break
      found.push(value)
    }
    return found
  }
  return {
    values,
    tag: (id) => values(id, 1)[0],
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
