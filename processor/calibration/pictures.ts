import type { RunPicture } from '../engine/batch.ts'

/** Preprocessed picture. */
export interface Picture extends RunPicture {
  /** SHA-256 of the file's bytes, hexadecimal. */
  digest: string
}

/** Batch of pictures. */
export interface PictureBatch {
  pictures: readonly RunPicture[]
  /** Pictures in it. */
  count: number
}

/** A batch filled up with its own pictures again. */
export function filledUp({ pictures }: PictureBatch, size: number): PictureBatch {
  const filled = Array.from({ length: size }, (_, i) => pictures[i % pictures.length]!)
  return { pictures: filled, count: size }
}

/** Puts pictures into batches of up to `size`. */
export function toBatches(pictures: readonly RunPicture[], size: number): PictureBatch[] {
  return Array.from({ length: Math.ceil(pictures.length / size) }, (_, i) => {
    const chosen = pictures.slice(i * size, (i + 1) * size)
    return { pictures: chosen, count: chosen.length }
  })
}
