import { hash } from 'node:crypto'
import { mapInOrder } from '../../../infra/ordered-map.ts'
import type { Picture } from '../../calibration/pictures.ts'
import { sample } from '../../calibration/split.ts'
import { preprocess } from '../../engine/preprocess.ts'
import type { ImageSpec } from '../../models/model.ts'
import { type FetchImage, readImage } from '../caption/image-bytes.ts'
import { readSources, resolveInputs } from '../caption/inputs.ts'
import type { Source } from '../caption/manifest.ts'
import { describeError } from '../errors.ts'

export interface PictureOptions {
  /** Pictures at most. */
  count: number
  seed: number
  image: ImageSpec
  fetchImage: FetchImage
  stdin: AsyncIterable<Uint8Array>
  signal?: AbortSignal
}

export interface ReadPictures {
  pictures: Picture[]
  /** One line for each that could not be read. */
  unreadable: string[]
}

/**
 * Reads pictures from folders, files, globs, addresses and manifests; of more than `count` a random choice, the same
 * for the same seed. @throws UsageError when an argument names nothing that exists.
 */
export async function readPictures(args: string[], options: PictureOptions): Promise<ReadPictures> {
  const { count, seed, signal } = options
  const sources = readSources(await resolveInputs(args), options.stdin)
  const chosen = await sample(sources, { count, seed, nameOf: ({ image }) => image })
  const read = mapInOrder(each(chosen), (source) => readPicture(source, options), { concurrency: 4, signal })
  const pictures: Picture[] = []
  const unreadable: string[] = []
  for await (const result of read)
    if ('pixels' in result) pictures.push(result)
    else unreadable.push(result.failure)
  return { pictures, unreadable }
}

async function* each<T>(items: readonly T[]): AsyncGenerator<T> {
  yield* items
}

async function readPicture(
  { image: name, location, error }: Source,
  { image, fetchImage }: PictureOptions,
): Promise<Picture | { failure: string }> {
  try {
    if (location === undefined) throw error
    const bytes = await readImage(location, fetchImage)
    const pixels = new Uint8Array(image.height * image.width * 3)
    await preprocess(bytes, image, pixels)
    return { digest: hash('sha256', bytes), pixels }
  } catch (cause) {
    return { failure: `${name}: ${describeError(cause)}` }
  }
}
