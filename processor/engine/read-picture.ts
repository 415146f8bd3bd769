import { type PictureRule, pictureBytes } from '../models/pictures.ts'
import type { RunPicture } from './batch.ts'
import { preprocess } from './preprocess.ts'

/** Decodes an image that is known to be good, in this process, into memory that a device's thread shares. @throws ImageError */
export async function readPicture(image: Uint8Array, rule: PictureRule): Promise<RunPicture> {
  let pixels = new Uint8Array(new SharedArrayBuffer(0))
  const { shape } = await preprocess(image, rule, (shape) => {
    pixels = new Uint8Array(new SharedArrayBuffer(pictureBytes(rule, shape)))
    return pixels
  })
  return { pixels, shape }
}
