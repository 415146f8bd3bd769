import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'
import type { Outages } from '../../delivery/outages.ts'

/** Of the formats that are captioned. */
const imageExtension = /\.(?:jpe?g|png|webp|gif|tiff?|avif)$/i

export interface ImageManifestOptions {
  /** `s3://bucket/prefix/` */
  prefix: string
  /** The bucket that the prefix names. */
  bucket: Pick<ObjectStore, 'list'>
  outages: Outages
  signal: AbortSignal
}

/**
 * A manifest, as text, of every image below a prefix of a bucket: a line for each, whose `custom_id` is the image's
 * key without the prefix. Images are told by their extension.
 */
export async function* imageManifest({
  prefix,
  bucket,
  outages,
  signal,
}: ImageManifestOptions): AsyncGenerator<Uint8Array> {
  const { bucket: name, key: base } = parseS3Uri(prefix)
  const encoder = new TextEncoder()
  let continuation: string | undefined
  do {
    const page = await outages.outlast(() => bucket.list(base, { continuation }), signal)
    const lines = page.objects
      .filter(({ key }) => imageExtension.test(key))
      .map(({ key }) => ({ custom_id: key.slice(base.length), image_url: `s3://${name}/${key}` }))
    if (lines.length > 0) yield encoder.encode(lines.map((line) => `${JSON.stringify(line)}\n`).join(''))
    continuation = page.continuation
  } while (continuation !== undefined)
}
