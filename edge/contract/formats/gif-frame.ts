/** Steps through a file from block to block; what is beyond is not looked at. */
const maxSteps = 1_000_000

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

const tableBytes = (packed = 0) => (packed & 0x80 ? 3 * 2 ** ((packed & 7) + 1) : 0)

/** What a GIF is made of: how many frames, counted up to a bound, where the first is, and whether the end is there. */
export function gifBlocks(
  bytes: Uint8Array,
  mostFrames: number,
): { frames: number; firstAt: number | undefined; complete: boolean } {
  let at = 13 + tableBytes(bytes[10])
  let frames = 0
  let firstAt: number | undefined
  for (let step = 0; step < maxSteps && at < bytes.length && frames < mostFrames; step++) {
    if (bytes[at] === 0x21) at = afterSubBlocks(bytes, at + 2)
    else if (bytes[at] === 0x2c) {
      firstAt ??= at
      frames++
      at = afterSubBlocks(bytes, at + 11 + tableBytes(bytes[at + 9]))
    } else break
  }
  return { frames, firstAt, complete: bytes[at] === 0x3b }
}

/** A rectangle of the screen, pixels. */
export interface Frame {
  left: number
  top: number
  width: number
  height: number
}

/** The part of the screen that the first frame covers; undefined where that is all of it, or none. */
export function gifFrame(bytes: Uint8Array): Frame | undefined {
  const { firstAt } = gifBlocks(bytes, 1)
  if (firstAt === undefined || firstAt + 9 > bytes.length) return undefined
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const short = (at: number) => view.getUint16(at, true)
  const screen = { width: short(6), height: short(8) }
  const left = short(firstAt + 1)
  const top = short(firstAt + 3)
  const width = Math.min(short(firstAt + 5), screen.width - left)
  const height = Math.min(short(firstAt + 7), screen.height - top)
  const covers = width === screen.width && height === screen.height
  return covers || width <= 0 || height <= 0 ? undefined : { left, top, width, height }
}
