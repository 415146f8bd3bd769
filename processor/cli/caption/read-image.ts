import { TurbineError } from '../../../edge/contract/errors.ts'
import type { ImageSource } from '../../../infra/fetch/image-source.ts'

/** Reads the encoded image at a path, an https URL or a `data:` URL. @throws ImageError */
export type ReadImage = (location: string) => Promise<Uint8Array>

/** Makes a reader for a command, which has no tenant and therefore no grants on S3. */
export const createImageReader =
  (imageAt: ImageSource): ReadImage =>
  (location) =>
    imageAt(location, { granted: refuseS3, signal: new AbortController().signal })

function refuseS3(): never {
  throw new TurbineError('s3:// URLs are not supported here. Use a path, https or data:.', {
    status: 400,
    code: 's3_unavailable',
    param: 'image_url',
  })
}
