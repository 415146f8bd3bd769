/**
 * Backlogs of a planner's batches: processors, which see only a few shards, know from them whether a batch is on time.
 * Refreshed while there is any batch; stored under `keys.backlog`.
 */
export interface PlannerBacklog {
  /** Unix ms. */
  seenAt: number
  batches: BatchBacklog[]
}

/** Remaining work of a batch. */
export interface BatchBacklog {
  batch: string
  /** Unix ms. */
  deadline: number
  /** Lines without a result, as far as they are counted. */
  linesLeft: number
  /** Maximum share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
}

/** Interval of a planner's announcements, ms. */
export const announceBacklogMs = 5_000
/** Older backlogs are ignored, ms: their planner has died, and another one has its batches. */
export const forgetBacklogMs = 30_000
