import { type PatchesRule, type PictureRule, sizesOf, type TilesRule } from '../models/pictures.ts'
import type { Pixels } from './resample.ts'
import { type Scaling, scalePixels } from './scale.ts'

interface Size {
  width: number
  height: number
}

/** How a picture of a size is first resampled. */
export function scalingOf(rule: PictureRule, source: Size): Scaling {
  const [{ width, height }] = sizesOf(rule, source) as [Size]
  const { resample } = rule
  const scaling: Scaling = { x: { size: width }, y: { size: height }, resample }
  if (rule.kind === 'squash') return { ...scaling, byLibrary: rule.exact ? undefined : true }
  if (rule.kind === 'crop') {
    const centre = (size: number, length: number) => ({ from: Math.floor((size - length) / 2), length })
    return {
      ...scaling,
      x: { size: width, part: centre(width, rule.width) },
      y: { size: height, part: centre(height, rule.height) },
    }
  }
  if (rule.kind === 'pad') {
    const length = Math.max(source.width, source.height)
    const beside = (size: number) => ({ from: -Math.floor((length - size) / 2), length })
    return {
      ...scaling,
      x: { size: width, shown: beside(source.width) },
      y: { size: height, shown: beside(source.height) },
      border: rule.background,
    }
  }
  return scaling
}

/** Lays the resampled pixels of a picture out as the model takes them. @param source its size before */
export async function layOut(
  pixels: Pixels,
  rule: PictureRule,
  source: Size,
  target: Uint8Array,
): Promise<void> {
  if (rule.kind === 'tiles') await layOutTiles(pixels, sizesOf(rule, source).at(-1)!, rule, target)
  else if (rule.kind === 'patches') layOutPatches(pixels, rule, target)
  else target.set(pixels.data)
}

/** Row by row, and the whole as the last: `[tiles, tile, tile, 3]`. */
async function layOutTiles(
  pixels: Pixels,
  size: Size,
  { tile, resample }: TilesRule,
  target: Uint8Array,
): Promise<void> {
  const whole = await scalePixels(pixels, size, resample)
  const tileBytes = tile * tile * 3
  if (whole.width === tile && whole.height === tile) return target.set(whole.data)
  let to = 0
  for (let top = 0; top < whole.height; top += tile)
    for (let left = 0; left < whole.width; left += tile, to += tileBytes)
      for (let line = 0; line < tile; line++) {
        const from = ((top + line) * whole.width + left) * 3
        target.set(whole.data.subarray(from, from + tile * 3), to + line * tile * 3)
      }
  const small = await scalePixels(whole, { width: tile, height: tile }, resample)
  target.set(small.data, to)
}

/** Patches of a token are neighbours; colours apart: `[rows / merge, cols / merge, merge, merge, 3, patch, patch]`. */
function layOutPatches({ data, width, height }: Pixels, { patch, merge }: PatchesRule, target: Uint8Array) {
  const side = patch * merge
  let to = 0
  for (let top = 0; top < height; top += side)
    for (let left = 0; left < width; left += side)
      for (let y = top; y < top + side; y += patch)
        for (let x = left; x < left + side; x += patch, to += 3 * patch * patch)
          for (let channel = 0; channel < 3; channel++)
            for (let line = 0; line < patch; line++) {
              let from = ((y + line) * width + x) * 3 + channel
              const start = to + (channel * patch + line) * patch
              for (let at = start; at < start + patch; at++, from += 3) target[at] = data[from]!
            }
}
