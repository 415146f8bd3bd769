import { TurbineError } from '../../../edge/contract/errors.ts'
import type { ImageSource } from '../../../infra/fetch/image-source.ts'

/** The encoded bytes of the image at a path or an https address, or in a `data:` URL. @throws ImageError */
export type ReadImage = (location: string) => Promise<Uint8Array>

/** An image source for a command, which acts for no tenant and so has no grants to read S3 by. */
export const imageReader =
  (imageAt: ImageSource): ReadImage =>
  (location) =>
    imageAt(location, { granted: refuseS3, signal: new AbortController().signal })

function refuseS3(): never {
  throw new TurbineError('s3:// addresses are not read here. Use a path, https or data:.', {
    status: 400,
    code: 's3_unavailable',
    param: 'image_url',
  })
}
