/**
 * Backlogs of a planner's batches, by which processors know whether a batch is on time though they see but a few of its
 * shards. Refreshed while there is any such batch; stored under `keys.backlog`.
 */
export interface PlannerBacklog {
  /** Unix ms. */
  seenAt: number
  batches: BatchBacklog[]
}

/** What is left of a batch. */
export interface BatchBacklog {
  batch: string
  /** When it is to be done, unix ms. */
  deadline: number
  /** Lines that have no result yet; those that were not counted yet are missing. */
  linesLeft: number
  /** Highest share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
}

/** How often a planner announces its backlogs, ms. */
export const announceBacklogMs = 5_000
/** Backlogs this old count no more, ms: their planner has died, and another one has its batches. */
export const forgetBacklogMs = 30_000
