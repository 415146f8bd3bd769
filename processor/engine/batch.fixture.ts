import { type PictureRule, pictureBytes, wholePicture } from '../models/pictures.ts'
import type { RunPicture } from './batch.ts'

/** A picture of one value everywhere. */
export function blankPicture(rule: PictureRule, value = 0): RunPicture {
  const bytes = pictureBytes(rule, wholePicture)
  return { pixels: new Uint8Array(new SharedArrayBuffer(bytes)).fill(value), shape: wholePicture }
}
