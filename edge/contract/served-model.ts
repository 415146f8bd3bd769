import type { ModelSummary } from './model.ts'

/** What the processors of a fleet tell the edges about a model they serve; refreshed while any of them runs. */
export interface ServedModel {
  model: ModelSummary
  /** Images per second that a processor serves unpruned. */
  throughput: number
  /** Unix ms. */
  seenAt: number
}

/** How often a processor says that it serves a model, ms. */
export const announceModelMs = 20_000
/** A model that nobody has spoken of for so long is still listed, since jobs for it wait safely in the stream. */
export const forgetModelMs = 24 * 3_600_000
