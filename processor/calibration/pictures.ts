import type { ImageSpec } from '../models/model.ts'

/** Preprocessed picture. */
export interface Picture {
  /** SHA-256 of the file's bytes, hexadecimal. */
  digest: string
  /** `uint8 [H, W, 3]`, of the model's size. */
  pixels: Uint8Array
}

/** Batch of pictures. */
export interface PictureBatch {
  /** `uint8 [size, H, W, 3]`, with room for a full batch. */
  pixels: Uint8Array<SharedArrayBuffer>
  /** Pictures in it. */
  count: number
}

/** Puts pictures into batches of up to `size`, in memory that a device's thread shares. */
export function toBatches(
  pictures: readonly Pick<Picture, 'pixels'>[],
  { image, size }: { image: ImageSpec; size: number },
): PictureBatch[] {
  const imageBytes = image.height * image.width * 3
  return Array.from({ length: Math.ceil(pictures.length / size) }, (_, i) => {
    const chosen = pictures.slice(i * size, (i + 1) * size)
    const pixels = new Uint8Array(new SharedArrayBuffer(size * imageBytes))
    for (const [row, picture] of chosen.entries()) pixels.set(picture.pixels, row * imageBytes)
    return { pixels, count: chosen.length }
  })
}
