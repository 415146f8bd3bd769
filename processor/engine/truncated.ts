import { gifBlocks } from '../../edge/contract/formats/gif-frame.ts'
import { readTiff, tiffTags } from '../../edge/contract/formats/tiff-tags.ts'
import { jpegIsComplete } from '../../edge/contract/image-work.ts'

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
/** Steps from chunk to chunk. */
const maxSteps = 1_000_000

/** Whether the end of a file is missing, as far as its own structure tells. */
export function isTruncated(format: string, bytes: Uint8Array): boolean {
  try {
    return ends[format]?.(bytes) === false
  } catch {
    // A header that is cut itself.
    return true
  }
}

/** By the name of the format: whether the end is there. */
const ends: Readonly<Record<string, (bytes: Uint8Array) => boolean>> = {
  JPEG: jpegIsComplete,
  PNG: pngIsComplete,
  GIF: (bytes) => gifBlocks(bytes, Number.POSITIVE_INFINITY).complete,
  WebP: (bytes) => viewOf(bytes).getUint32(4, true) + 8 <= bytes.length,
  TIFF: tiffIsComplete,
  AVIF: boxesAreComplete,
  HEIC: boxesAreComplete,
  BMP: (bytes) => viewOf(bytes).getUint32(2, true) <= bytes.length,
}

function pngIsComplete(bytes: Uint8Array): boolean {
  const view = viewOf(bytes)
  let at = 8
  for (let step = 0; step < maxSteps && at + 12 <= bytes.length; step++) {
    // `IEND`
    if (view.getUint32(at + 4) === 0x49454e44) return true
    at += 12 + view.getUint32(at)
  }
  return false
}

/** Its directory, and each strip or tile of its first page. */
function tiffIsComplete(bytes: Uint8Array): boolean {
  const { values, tag } = readTiff(bytes)
  if (tag(256) === undefined) return false
  const most = 1_000_000
  const tiled = tag(tiffTags.tileOffsets) !== undefined
  const offsets = values(tiled ? tiffTags.tileOffsets : tiffTags.stripOffsets, most)
  const counts = values(tiled ? tiffTags.tileByteCounts : tiffTags.stripByteCounts, most)
  return offsets.length > 0 && offsets.every((offset, index) => offset + (counts[index] ?? 0) <= bytes.length)
}

function boxesAreComplete(bytes: Uint8Array): boolean {
  const view = viewOf(bytes)
  let at = 0
  for (let step = 0; step < maxSteps && at + 8 <= bytes.length; step++) {
    const size = view.getUint32(at)
    // To the end of the file.
    if (size === 0) return true
    at += size === 1 ? Number(view.getBigUint64(at + 8)) : Math.max(size, 8)
  }
  return at <= bytes.length
}
