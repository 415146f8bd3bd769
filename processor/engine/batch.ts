import type { GenerationSettings } from '../models/generation.ts'
import type { CaptionModel } from '../models/model.ts'
import type { PictureShape } from '../models/pictures.ts'
import type { EncodedPrompt } from '../models/prompts.ts'
import type { Schedule } from '../turbo/schedule.ts'

/** Batch sizes of a session: few, since its memory grows with every new shape. */
export const defaultBuckets = [1, 2, 4, 8, 16]

/** Batch sizes of a device with a maximum of `most` images: the powers of two below it, and itself. */
export function bucketsUpTo(most: number): number[] {
  const buckets: number[] = []
  for (let bucket = 1; bucket < most; bucket *= 2) buckets.push(bucket)
  return [...buckets, most]
}

/** Preprocessed picture, in memory that the device's thread shares. */
export interface RunPicture {
  /** As the model's picture rule gives them, e.g. `uint8 [count, H, W, 3]`. */
  pixels: Uint8Array<SharedArrayBuffer>
  shape: PictureShape
}

/** One caption of a batch. */
export interface RunRow {
  pictures: readonly RunPicture[]
  prompt: EncodedPrompt
  settings: GenerationSettings
  /** Whether its ids are wanted as they are made. */
  streamed?: boolean
  /** Set to 1 when no more ids of it are wanted, while it runs. */
  leaves?: Int32Array<SharedArrayBuffer>
}

/** Ids that a row of a batch has got. */
export interface MadeIds {
  /** Index of the row. */
  row: number
  /** All so far. */
  ids: number[]
  /** Given when it gets no more. */
  ended?: boolean
}

/** Batch for a device. */
export interface DeviceRun {
  /** At least one, and no more than the largest bucket. */
  rows: readonly RunRow[]
  schedule: Schedule
  /** Called while a batch runs whose model makes ids step by step. */
  onMade?(made: MadeIds): void
}

/** What a row's run made. */
export interface RowResult {
  /** Ids behind the prompt, the end id included. */
  ids: number[]
  /** Whether the model ended it; else its maximum of tokens did. */
  ended: boolean
  /** Of a tagger: a score for each of its tags, 0 to 1. */
  scores?: Float32Array
}

/** The smallest bucket with room for `count` images. @throws RangeError when there is none. */
export function bucketFor(count: number, buckets: readonly number[]): number {
  const fitting = buckets.filter((bucket) => bucket >= count)
  if (count < 1 || fitting.length === 0) {
    throw new RangeError(`a batch of ${count} images does not fit the batch sizes ${buckets.join(', ')}`)
  }
  return Math.min(...fitting)
}

/** The row of a picture that nobody asks anything about. */
export const plainRow = async (
  model: Pick<CaptionModel, 'encode' | 'generation'>,
  picture: RunPicture,
): Promise<RunRow> => ({
  pictures: [picture],
  prompt: await model.encode({ text: '', pictures: [picture.shape] }),
  settings: model.generation,
})

/** Steps of a run that measures a model which generates text step by step: enough to know how long one takes. */
const measuredTokens = 32

/** The row to measure a model with. */
export async function measuredRow(
  model: Pick<CaptionModel, 'encode' | 'generation' | 'runner'>,
  picture: RunPicture,
): Promise<RunRow> {
  const row = await plainRow(model, picture)
  if (model.runner.lengths === 'equal') return row
  return {
    ...row,
    settings: { ...row.settings, maxTokens: Math.min(measuredTokens, row.settings.maxTokens) },
  }
}

/** Ids of a caption: those of its prompt that are part of it, then those that were made. */
export const captionIds = ({ ids, answer = ids.length }: EncodedPrompt, result: Pick<RowResult, 'ids'>) => [
  ...ids.slice(answer),
  ...result.ids,
]
