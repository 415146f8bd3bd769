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

/** Rows that begin together, at one prune level. */
export interface RowGroup {
  /** At least one, and no more than the largest bucket. */
  rows: readonly RunRow[]
  schedule: Schedule
}

/** Time of a part of a run: of the pictures and prompts of rows that begin, up to their first id, or of steps behind that. */
export interface PartTime {
  /** Indexes of the rows. */
  rows: readonly number[]
  /** Ids that each row got; 0 for pictures and prompts. */
  steps: number
  ms: number
}

/** Rows that could not begin in a batch that runs; the others go on. */
export interface FailedRows {
  rows: readonly number[]
  reason: string
}

/** Batch for a device. The rest is of models that make ids step by step. */
export interface DeviceRun extends RowGroup {
  /** Called while the batch runs. */
  onMade?(made: MadeIds): void
  /** Rows that join the batch while it runs; default: none do. */
  joining?: Joining
}

/** Rows that join a batch: their indexes follow those of the rows before them. */
export interface Joining {
  /** Above 0 while rows wait: else the device does not ask. */
  waiting: Int32Array<SharedArrayBuffer>
  /** Asked between steps, while so many rows are running. */
  next(running: number): RowGroup | undefined
  onTime?(time: PartTime): void
  /** Called with an error that is retriable. */
  onFailed?(rows: readonly number[], error: Error): void
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
