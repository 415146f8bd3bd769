import { ImageError } from '../../../edge/contract/errors.ts'
import { keys } from '../../../edge/contract/keys.ts'
import { decodeShardHeader, type ShardHeader, type ShardJob } from '../../../edge/contract/shard.ts'
import type { ImageSource } from '../../../infra/fetch/image-source.ts'
import type { ObjectStore } from '../../../infra/store/store.ts'

/** The bytes of a tiny GIF that end with its name, so that a fake captioner's caption tells which it was. */
export const gif = (name: string) => new TextEncoder().encode(`GIF89a\u0001\0\u0001\0 ${name}`)

/** What `FakeCaptioner` calls the image of an address. */
export const captionOf = (url: string) => `caption of ${new TextDecoder().decode(gif(url))}`

/** Every address has an image, but those with `gone` in them; those with `text` have something else. */
export const fakeImages: ImageSource = async (url) => {
  if (url.includes('gone')) throw new ImageError('image_not_found', 'There is no such image.')
  if (url.includes('text')) return new TextEncoder().encode('no image')
  return gif(url)
}

/** Takes a place for each image, as every image source does. */
export const inPlace =
  (images: ImageSource): ImageSource =>
  async (url, ask) => {
    const place = await ask.place?.()
    try {
      return await images(url, ask)
    } catch (error) {
      place?.release()
      throw error
    }
  }

const manifestKey = keys.fileContent('acme', 'manifest')

/** A shard of the lines, which are put into the store. */
export async function shardOf(
  store: ObjectStore,
  lines: string[],
  change: Partial<ShardJob> = {},
): Promise<ShardJob> {
  const bytes = new TextEncoder().encode(lines.map((line) => `${line}\n`).join(''))
  await store.put(manifestKey, bytes)
  return {
    tenant: 'acme',
    batch: 'batch_1',
    shard: 0,
    endpoint: '/v1/captions',
    model: 'fake',
    maxPrune: 1,
    expiresAt: 1_000_000,
    createdAt: 0,
    slices: [{ key: manifestKey, start: 0, end: bytes.length }],
    firstLine: 1,
    lines: lines.filter((line) => line.trim() !== '').length,
    duplicates: [],
    ...change,
  }
}

/** A line of an output or error file, as far as tests look at it. */
export interface ResultLine {
  id: string
  custom_id: string | null
  response: {
    status_code: number
    request_id: string
    body: { error?: { code: string }; [field: string]: unknown }
  } | null
  error: { code: string; message: string; line?: number } | null
}

/** A shard's object, taken apart. */
export function decodeShard(object: Uint8Array): {
  header: ShardHeader
  output: ResultLine[]
  errors: ResultLine[]
} {
  const { header, bodyStart } = decodeShardHeader(object)
  const middle = bodyStart + header.outputBytes
  const end = middle + header.errorBytes
  return {
    header,
    output: parse(object.subarray(bodyStart, middle)),
    errors: parse(object.subarray(middle, end)),
  }
}

const parse = (bytes: Uint8Array): ResultLine[] =>
  new TextDecoder()
    .decode(bytes)
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

/** Code of an error line, whichever way it is told. */
export const codeOf = ({ response, error }: ResultLine) => error?.code ?? response?.body.error?.code

export const shardKey = ({ tenant, batch, shard }: ShardJob) => keys.batchShard(tenant, batch, shard)
