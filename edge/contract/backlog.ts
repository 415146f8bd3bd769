import { z } from 'zod'

/** Remaining work of a batch. */
const batchBacklogSchema = z.object({
  batch: z.string(),
  /** The batch's model; absent in announcements of earlier versions. */
  model: z.string().optional(),
  /** Unix ms. */
  deadline: z.number(),
  /** Lines without a result, as far as they are counted. */
  linesLeft: z.number(),
  /** Maximum share of image tokens that may be merged, 0 to 1. */
  maxPrune: z.number(),
})
export type BatchBacklog = z.infer<typeof batchBacklogSchema>

/**
 * Backlogs of a planner's batches: processors, which see only a few shards, know from them whether a batch is on time.
 * Refreshed while there is any batch; stored under `keys.backlog`.
 */
export const plannerBacklogSchema = z.object({
  /** Unix ms. */
  seenAt: z.number(),
  batches: z.array(batchBacklogSchema),
})
export type PlannerBacklog = z.infer<typeof plannerBacklogSchema>

/** Interval of a planner's announcements, ms. */
export const announceBacklogMs = 5_000
/** Older backlogs are ignored, ms: their planner has died, and another one has its batches. */
export const forgetBacklogMs = 30_000
