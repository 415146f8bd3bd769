import type { PatchesRule, PictureShape } from '../../models/pictures.ts'
import type { RgbImage } from './merge-picture.ts'

/**
 * Puts the patches of a picture together again, which lie as the model takes them: those of a token are neighbours, with their
 * colours apart.
 */
export function joinPatches(
  patches: Uint8Array,
  { patch, merge, rows, cols }: Pick<PatchesRule, 'patch' | 'merge'> & Pick<PictureShape, 'rows' | 'cols'>,
): RgbImage {
  const [height, width] = [rows * patch, cols * patch]
  const pixels = new Uint8Array(height * width * 3)
  const side = patch * merge
  let from = 0
  for (let top = 0; top < height; top += side)
    for (let left = 0; left < width; left += side)
      for (let y = top; y < top + side; y += patch)
        for (let x = left; x < left + side; x += patch)
          for (let channel = 0; channel < 3; channel++)
            for (let line = y; line < y + patch; line++)
              for (let at = x; at < x + patch; at++)
                pixels[(line * width + at) * 3 + channel] = patches[from++]!
  return { pixels, height, width }
}
