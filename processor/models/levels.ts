import type { Schedule } from '../turbo/schedule.ts'

/** One entry of a model's level table. Level 0 is the unpruned model. */
export interface PruneLevel extends Schedule {
  /** Tokens that leave the encoder, CLS included. */
  tokensOut: number
  /** Share of the image tokens that are merged away, 0 to 1. */
  pruneRatio: number
}
