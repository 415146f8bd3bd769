import sharp, { type Sharp, type SharpOptions } from 'sharp'
import type { FileFormat } from '../../edge/contract/formats/formats.ts'
import { gifFrame } from '../../edge/contract/formats/gif-frame.ts'
import { isReadByMagick, toTiff } from './magick.ts'
import { openTiff } from './tiff-picture.ts'

/** A picture that is yet to be decoded. */
export interface Picture {
  pipeline: Sharp
  /** Pixels, after the orientation is applied. */
  width: number
  height: number
}

/** Opens a picture of any format that is decoded, whatever it takes to make libvips read it. @throws ImageError for a kind that is refused */
export async function openPicture(
  bytes: Uint8Array,
  { name }: FileFormat,
  options: SharpOptions,
): Promise<Picture> {
  if (isReadByMagick(name)) return opened(sharp(await toTiff(bytes, name), options))
  if (name === 'AVIF') return opened(sharp(asStill(bytes), options))
  if (name === 'TIFF') return opened(await openTiff(bytes, options))
  if (name === 'GIF') return openGif(bytes, options)
  return opened(sharp(bytes, options))
}

async function opened(pipeline: Sharp): Promise<Picture> {
  const { autoOrient } = await pipeline.metadata()
  return { pipeline, ...autoOrient }
}

/** libvips reads no sequence, but the still picture that an animated AVIF has as well, if the file is said to be one. */
function asStill(bytes: Uint8Array): Uint8Array {
  if (bytes[11] !== 0x73) return bytes
  const still = new Uint8Array(bytes)
  // `avis` becomes `avif`.
  still[11] = 0x66
  return still
}

/** libvips leaves black what the first frame leaves free, if it has no transparency; browsers show what is behind. */
async function openGif(bytes: Uint8Array, options: SharpOptions): Promise<Picture> {
  const pipeline = sharp(bytes, options)
  const { width, height, hasAlpha } = await pipeline.metadata()
  const frame = gifFrame(bytes)
  if (!frame || hasAlpha) return { pipeline, width, height }
  const { data, info } = await pipeline
    .extract(frame)
    .toColourspace('srgb')
    .raw({ depth: 'uchar' })
    .toBuffer({ resolveWithObject: true })
  const { channels } = info
  const screen = new Uint8Array(width * height * channels).fill(255)
  const row = frame.width * channels
  for (let y = 0; y < frame.height; y++)
    screen.set(data.subarray(y * row, (y + 1) * row), ((frame.top + y) * width + frame.left) * channels)
  return { pipeline: sharp(screen, { raw: { width, height, channels } }), width, height }
}
