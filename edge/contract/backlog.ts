/**
 * What a planner tells the processors of the batches that it looks after, so that they know whether a batch is on
 * time though they see but a few of its shards. Refreshed while there is any such batch; kept under `keys.backlog`.
 */
export interface PlannerBacklog {
  /** Unix ms. */
  seenAt: number
  batches: BatchBacklog[]
}

/** How far a batch is from its end. */
export interface BatchBacklog {
  batch: string
  /** When it is to be done, unix ms. */
  deadline: number
  /** Lines that have no result yet; those that were not counted yet are missing. */
  linesLeft: number
  /** Highest share of image tokens that may be merged, 0 to 1. */
  maxPrune: number
}

/** How often a planner refreshes what it says, ms. */
export const announceBacklogMs = 5_000
/** What a planner said so long ago counts no more: it has died, and another one looks after its batches. */
export const forgetBacklogMs = 30_000
