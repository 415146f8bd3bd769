import { basename } from 'node:path/posix'
import pMap from 'p-map'
import {
  countSkipped,
  headBytes,
  imageFormat,
  isHiddenName,
  kindOfName,
  type Skipped,
} from '../../../edge/contract/formats/file-kind.ts'
import { jsonLine } from '../../../edge/contract/lines.ts'
import { parseS3Uri } from '../../../edge/contract/tenant.ts'
import { InvalidRangeError } from '../../../infra/store/range.ts'
import {
  BucketUnavailableError,
  listPages,
  type ObjectInfo,
  type ObjectStore,
} from '../../../infra/store/store.ts'
import { isOutage } from '../../delivery/outages.ts'
import { atCallersBucket, type PatienceOptions } from '../callers-bucket.ts'

/** Objects whose first bytes are read at once. */
const headsAtOnce = 16

/**
 * Creates a manifest, as text, of all images below a prefix, recognised as in a folder of files: a line for each, whose
 * `custom_id` is the image's key without the prefix. What is left out is counted.
 * @param prefix `s3://bucket/prefix/`
 * @param bucket the one that the prefix names
 */
export async function* imageManifest(
  prefix: string,
  bucket: Pick<ObjectStore, 'get' | 'list'>,
  { skipped, ...options }: PatienceOptions & { skipped: Skipped },
): AsyncGenerator<Uint8Array> {
  const { bucket: name, key: base } = parseS3Uri(prefix)
  const encoder = new TextEncoder()
  const list: ObjectStore['list'] = (...args) => atCallersBucket(() => bucket.list(...args), options)
  let hidden: string | undefined
  for await (const page of listPages({ list }, base)) {
    const visible = page.filter(({ key, size }) => {
      const under = hiddenPath(key.slice(base.length))
      // A hidden folder counts once, as one whose files are not looked at.
      if (under !== undefined && under !== hidden) countSkipped(skipped, 'hidden')
      hidden = under
      const isFolder = size === 0 && (key.endsWith('/') || key === base)
      return under === undefined && !isFolder
    })
    const found = await pMap(visible, (object) => isImage(object, bucket, options), {
      concurrency: headsAtOnce,
    })
    const images = visible.filter((_, index) => found[index])
    for (let left = visible.length - images.length; left > 0; left--) countSkipped(skipped, 'not_image')
    const lines = images.map(({ key }) =>
      jsonLine({ custom_id: key.slice(base.length) || key, image_url: `s3://${name}/${key}` }),
    )
    if (lines.length > 0) yield encoder.encode(lines.map((line) => `${line}\n`).join(''))
  }
}

/** The path up to its first hidden name. */
function hiddenPath(path: string): string | undefined {
  const names = path.split('/')
  const first = names.findIndex(isHiddenName)
  return first === -1 ? undefined : names.slice(0, first + 1).join('/')
}

/** Decides by the name where that tells, else by the first bytes. What cannot be read is taken, so that its line tells why. */
async function isImage(
  { key, size }: ObjectInfo,
  bucket: Pick<ObjectStore, 'get'>,
  options: PatienceOptions,
): Promise<boolean> {
  const kind = kindOfName(basename(key))
  if (kind !== 'unknown' || size === 0) return kind === 'image'
  try {
    const head = await atCallersBucket(() => readHead(key, bucket, options), options)
    return head === undefined || imageFormat(head) !== undefined
  } catch (error) {
    options.signal.throwIfAborted()
    if (isOutage(error)) throw error
    return !(error instanceof InvalidRangeError)
  }
}

/** Undefined where a bucket that lists its objects does not give out this one. */
async function readHead(
  key: string,
  bucket: Pick<ObjectStore, 'get'>,
  { signal }: PatienceOptions,
): Promise<Uint8Array | undefined> {
  try {
    const object = await bucket.get(key, { start: 0, end: headBytes - 1 }, { signal })
    return object && new Uint8Array(await new Response(object.body).arrayBuffer())
  } catch (error) {
    if (error instanceof BucketUnavailableError) return undefined
    throw error
  }
}
