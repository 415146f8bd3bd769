import { TurbineError } from '../../../edge/contract/errors.ts'
import type { ImageAsk, ImageSource } from '../../../infra/fetch/image-source.ts'

export type ReadImageOptions = Pick<ImageAsk, 'failedSince' | 'leave' | 'place'>

/** Reads the encoded image at a path, a web address or a `data:` URL. @throws ImageError */
export type ReadImage = (location: string, options?: ReadImageOptions) => Promise<Uint8Array>

/** Makes a reader for a command, which has no tenant and therefore no grants on S3. */
export const createImageReader =
  (imageAt: ImageSource): ReadImage =>
  (location, options) =>
    imageAt(location, { ...options, granted: refuseS3, signal: new AbortController().signal })

function refuseS3(): never {
  throw new TurbineError('s3:// URLs are not supported here. Use a path, https or data:.', {
    status: 400,
    code: 's3_unavailable',
    param: 'image_url',
  })
}
