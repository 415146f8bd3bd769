import type { LevelQuality } from '../models/levels.ts'
import type { Schedule } from '../turbo/schedule.ts'

/** A schedule and how well it did on all pictures that levels are chosen by. */
export interface Outcome {
  schedule: Schedule
  /** FLOPs of the encoder over those without pruning. */
  flopShare: number
  tokensOut: number
  quality: LevelQuality
}
